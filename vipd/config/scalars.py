"""The meaning of single values in the configuration file.

Each function takes the text and returns the value.

All of them raise BadValueError, with what is wrong and what is allowed. Durations become seconds
(float).
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from urllib.parse import SplitResult, urlsplit

from vipd.config.findings import BadValueError, nearest

Address = IPv4Interface | IPv6Interface
BROADCAST = IPv4Address("255.255.255.255")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)")
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})

FROM_MILLISECONDS = 100
"""Numbers without a unit from here on are taken for milliseconds in suggestions: nobody waits for
500 s between two checks."""
LABEL_RULE = "a DNS label: 1 to 63 of a-z, 0-9 and -, no - at either end"
LONGEST_NODE = 248
"""A candidate Lease is called `vipd.<node>` and a name in Kubernetes has at most 253 characters."""
LONGEST_INTERFACE = 127
"""Bytes of an alternative name; a first one has 15 at most."""
"""IFNAMSIZ of the kernel is 16, with the closing NUL."""
LONGEST_SOCKET = 107
"""sun_path has 108 bytes, with the closing NUL (unix(7))."""


def text(value: object) -> str:
    """Return a value that is one word or line."""
    if not isinstance(value, str):
        shape = "a mapping" if isinstance(value, dict) else "a list"
        raise BadValueError(f"{shape} stands where a single value is wanted")
    if not value:
        raise BadValueError("the value is empty")
    return value


def seconds(low: float, high: float) -> Callable[[object], float]:
    """Return a reader of durations `250ms`, `3s`, `1m`, `1h` between low and high seconds."""

    def read(value: object) -> float:
        word = text(value)
        allowed = f"{shown(low)}..{shown(high)}"
        match = _DURATION.fullmatch(word)
        if match is None:
            if _NUMBER.fullmatch(word):
                raise BadValueError(
                    f"{word} has no unit",
                    "a duration with its unit: 250ms, 3s or 1m",
                    _with_unit(word, low, high),
                )
            raise BadValueError(
                f"{word!r} is not a duration", "a number with its unit: 250ms, 3s or 1m"
            )
        result = round(float(match[1]) * _UNITS[match[2]], 6)
        if not low <= result <= high:
            raise BadValueError(f"{word} is out of range", allowed)
        return result

    return read


def _with_unit(number: str, low: float, high: float) -> str:
    """Return what an operator most probably meant by a number without a unit.

    500 is 500ms, 10 is 10s, 0.4 is 400ms.
    """
    value = float(number)
    in_seconds, in_milliseconds = low <= value <= high, low <= value / 1000 <= high
    if in_milliseconds and (value >= FROM_MILLISECONDS or not in_seconds):
        return f"{number}ms"
    return shown(value) if in_seconds else f"{number}s"


def shown(duration: float) -> str:
    """Return a duration in seconds as an operator writes it; more than 99 days is "no limit"."""
    if not math.isfinite(duration):
        return "no limit"
    for unit, size in (("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if duration >= size and math.isclose(duration / size, round(duration / size)):
            return f"{round(duration / size)}{unit}"
    return f"{duration:g}s" if duration >= 1 else f"{duration * 1000:g}ms"


def whole(low: int, high: int) -> Callable[[object], int]:
    """Return a reader of whole numbers between low and high."""

    def read(value: object) -> int:
        word = text(value)
        allowed = f"{low}..{high}"
        if _WHOLE.fullmatch(word) is None:
            raise BadValueError(f"{word!r} is not a whole number", allowed)
        result = int(word)
        if not low <= result <= high:
            raise BadValueError(f"{result} is out of range", allowed)
        return result

    return read


def priority(value: object) -> int:
    """Return a priority; 0 and 255 mean something else in VRRP and are refused with the reason."""
    word = text(value)
    if word == "0":
        raise BadValueError(
            "0 is reserved: in VRRP it says that the Active router stops (RFC 9568, 5.2.4)",
            "1..254",
        )
    if word == "255":
        raise BadValueError(
            "255 is reserved: in VRRP it marks the router that owns the address (RFC 9568, 5.2.4)",
            "1..254",
        )
    return whole(1, 254)(value)


def flag(value: object) -> bool:
    """Return a truth value."""
    word = text(value).lower()
    if word not in _TRUE | _FALSE:
        raise BadValueError(f"{word!r} is neither true nor false", "true, false")
    return word in _TRUE


def choice(names: Sequence[str]) -> Callable[[object], str]:
    """Return a reader of one of these names."""

    def read(value: object) -> str:
        word = text(value)
        if word not in names:
            raise BadValueError(
                f"{word!r} is not one of the names", ", ".join(names), nearest(word, names)
            )
        return word

    return read


def label(value: object) -> str:
    """Return a DNS label: names of instances and checks become parts of keys and metric labels."""
    word = text(value)
    if _LABEL.fullmatch(word) is None:
        raise BadValueError(f"{word!r} is not a name", LABEL_RULE)
    return word


def node(value: object) -> str:
    """Return a node's name: DNS labels joined by dots, as Kubernetes names nodes."""
    word = text(value)
    if len(word) > LONGEST_NODE or not all(_LABEL.fullmatch(part) for part in word.split(".")):
        raise BadValueError(
            f"{word!r} is not a node name",
            "DNS labels of a-z, 0-9 and -, joined by dots",
            node_like(word),
        )
    return word


def node_like(word: str) -> str:
    """Return the node name that a host name such as `Node_1` stands for; empty: none."""
    candidate = word.lower().replace("_", "-")
    valid = len(candidate) <= LONGEST_NODE and all(
        _LABEL.fullmatch(part) for part in candidate.split(".")
    )
    return candidate if valid and candidate != word else ""


def interface(value: object) -> str:
    """Return a name of a network interface, its first or an alternative one: it
    need not exist yet.
    """
    word = text(value)
    wrong = word in {".", ".."} or any(
        c in "/:" or c.isspace() or not c.isprintable() for c in word
    )
    if wrong or len(word.encode("utf-8", "replace")) > LONGEST_INTERFACE:
        raise BadValueError(
            f"{word!r} cannot be the name of an interface",
            f"1 to {LONGEST_INTERFACE} bytes without spaces, / and :",
        )
    return word


def address(value: object) -> Address:
    """Return a virtual address with its prefix length; without one /32 or /128."""
    word = text(value)
    try:
        parsed = ipaddress.ip_interface(word)
    except ValueError as error:
        raise BadValueError(
            f"{word!r} is not an address",
            "192.0.2.10/32 or 2001:db8::10/128, /32 and /128 may be left out",
        ) from error
    why = _unfit(parsed)
    if why:
        raise BadValueError(f"{word} cannot be a virtual address: {why}")
    return parsed


def _unfit(address: Address) -> str:
    ip, network = address.ip, address.network
    if isinstance(address, IPv6Interface):
        if address.scope_id is not None:
            return "an interface behind % has its own key"
        if address.ipv4_mapped is not None:
            return "an IPv4 address in IPv6 notation"
    kinds = {
        "unspecified": ip.is_unspecified,
        "multicast": ip.is_multicast,
        "loopback": ip.is_loopback,
        "a broadcast address": ip == BROADCAST,
    }
    for kind, found in kinds.items():
        if found:
            return f"it is {kind}"
    # /31 and /127 have no such addresses (RFC 3021, RFC 6164); nor has a single one.
    has_network_address = network.prefixlen < network.max_prefixlen - 1
    if has_network_address and ip == network.network_address:
        return f"it is the address of the network {network} itself"
    if has_network_address and isinstance(ip, IPv4Address) and ip == network.broadcast_address:
        return f"it is the broadcast address of {network}"
    return ""


def absolute_path(value: object) -> str:
    """Return a path that does not depend on where the daemon was started."""
    word = text(value)
    if not word.startswith("/") or "\0" in word:
        raise BadValueError(f"{word!r} is not an absolute path", "a path that begins with /")
    return word


def secret_path(value: object) -> str:
    """Return the path of a file with a secret.

    Somebody will give the secret itself, so what is no path is not quoted back.
    """
    word = text(value)
    if not word.startswith("/") or "\0" in word:
        raise BadValueError("this is not an absolute path", "a path that begins with /")
    return word


def socket_path(value: object) -> str:
    """Return a path that fits into the address of a unix socket."""
    word = absolute_path(value)
    if len(word.encode("utf-8", "surrogateescape")) > LONGEST_SOCKET:
        raise BadValueError(
            "the path is too long for a unix socket", f"at most {LONGEST_SOCKET} bytes"
        )
    return word


def plain_text(value: object) -> str:
    """Return printable ASCII text without spaces."""
    word = text(value)
    if not all("!" <= character <= "~" for character in word):
        raise BadValueError(f"{word!r} has spaces or characters outside of ASCII")
    return word


_HOST = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?"
)
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
    # `10.0.0` and `10.0.0.300` are typos of addresses; getaddrinfo would take the first for
    # 10.0.0.0.
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
    """Return a URL that carries no password.

    Whether a check can use it is the check's own business.
    """
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
    return (
        f"{parts.scheme}://[{name}]:{parts.port}"
        if ":" in name
        else f"{parts.scheme}://{name}:{parts.port}"
    )


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
        raise BadValueError(
            f"{word!r} cannot be a prefix", "begins with /, without //, for example /vipd/"
        )
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
