"""Network values in the configuration file: URLs, endpoints, hosts, ports, what to listen on.

All functions raise BadValueError. Values that may carry a secret (a password in a URL, a header) are never quoted back.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from vipd.config.findings import BadValueError
from vipd.config.scalars import plain_text, text

_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?")
_ALL_DIGITS = re.compile(r"[0-9.]+")
LONGEST_HOST = 253
"""RFC 1035 section 3.1, as text without the last dot."""
HIGHEST_PORT = 65535
OFF = "off"
NO_PASSWORD = "a user or password in a URL would end in logs and is refused"  # noqa: S105 - a sentence about one
STATUS_RULE = "200, 200-299 or a list of these, 100..599"


def host(value: object) -> str:
    """Return an IP address or a host name."""
    word = text(value)
    if _is_address(word):
        return word
    # `10.0.0` and `10.0.0.300` are typos of addresses; getaddrinfo would take the first for 10.0.0.0.
    if len(word) > LONGEST_HOST or _HOST.fullmatch(word) is None or _ALL_DIGITS.fullmatch(word):
        raise BadValueError(f"{word!r} is neither an address nor a host name")
    return word


def _is_address(word: str) -> bool:
    try:
        ipaddress.ip_address(word)
    except ValueError:
        return False
    return True


def url(value: object) -> str:
    """Return a URL that carries no password; whether a check can use it is the check's own business."""
    word = plain_text(value)
    if "@" in word.partition("://")[2].partition("/")[0]:
        raise BadValueError(NO_PASSWORD, "the header Authorization")
    return word


def endpoint(value: object) -> str:
    """Return `https://host:port` or `http://host:port` of an etcd member."""
    allowed = "https://host:port or http://host:port, for example https://10.0.0.11:2379"
    parts = _split(plain_text(value), allowed)
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise BadValueError("an endpoint is a host and a port, without a path", allowed)
    if parts.port is None:
        raise BadValueError("the endpoint has no port", allowed)
    name = str(parts.hostname)
    return f"{parts.scheme}://[{name}]:{parts.port}" if ":" in name else f"{parts.scheme}://{name}:{parts.port}"


def _split(word: str, allowed: str) -> SplitResult:
    try:
        parts = urlsplit(word)
        port = parts.port
    except ValueError as error:
        raise BadValueError(f"not a URL: {error}", allowed) from error
    if parts.username is not None or parts.password is not None:
        raise BadValueError(NO_PASSWORD, allowed)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadValueError(f"{word!r} is not a URL with a scheme and a host", allowed)
    if port == 0:
        raise BadValueError("port 0 is not a port", "1..65535")
    host(parts.hostname)
    return parts


def host_in(url: str) -> str:
    """Return the host of a URL; empty: it has none that could be looked up."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def prefix(value: object) -> str:
    """Return the prefix of all keys in etcd, beginning and ending with a slash."""
    word = plain_text(value)
    if not word.startswith("/") or "//" in word:
        raise BadValueError(f"{word!r} cannot be a prefix", "begins with /, without //, for example /vipd/")
    return word if word.endswith("/") else word + "/"


def listen(value: object) -> tuple[str, int] | str:
    """Return host and port to listen on, host empty: all addresses; or the word `off`."""
    allowed = "127.0.0.1:9477, [::1]:9477, :9477 for all addresses, or off"
    word = text(value)
    if word == OFF:
        return OFF
    name, colon, port = word.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= HIGHEST_PORT:
        raise BadValueError(f"{word!r} is not host:port with a port of 1..65535", allowed)
    bracketed = name.startswith("[") and name.endswith("]")
    bare = name[1:-1] if bracketed else name
    if (":" in bare and not bracketed) or not (bare in {"", "localhost"} or _is_address(bare)):
        raise BadValueError(f"{name!r} is not an address of this host", allowed)
    return bare, int(port)


def header_map(value: object) -> tuple[tuple[str, str], ...]:
    """Return request headers; their values may be secrets and are never quoted."""
    if not isinstance(value, dict):
        raise BadValueError("headers are a mapping of names to values", "{Name: value}")
    for name, content in value.items():
        if not isinstance(content, str) or not all(c == "\t" or " " <= c <= "~" for c in content):
            raise BadValueError(f"the value of the header {name} must be one line of ASCII text")
    return tuple(value.items())


def status_ranges(value: object) -> tuple[tuple[int, int], ...]:
    """Return the ranges of HTTP status that count as success, both ends included."""
    words = [text(item) for item in value] if isinstance(value, list) else text(value).split(",")
    return tuple(_status_range(word.strip()) for word in words)


def _status_range(word: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{3})(?:-([0-9]{3}))?", word)
    if match is None:
        raise BadValueError(f"{word!r} is not an HTTP status or a range of them", STATUS_RULE)
    return int(match[1]), int(match[2] or match[1])
