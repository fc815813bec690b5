"""What in a check's configuration makes no sense.

Pure; nothing is opened, resolved or connected to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from health.model import Check, HttpCheck, InterfaceCheck, Kind, TcpCheck, Weight

SHORTEST_INTERVAL = 0.05
SHORTEST_TIMEOUT = 0.01
LONGEST = 3600.0
MOST_RESULTS = 100
HEAVIEST = 253
"""1..254 minus each other: more can never matter."""
LONGEST_SOCKET_PATH = 107
"""sun_path of unix(7), less its terminating zero."""
LONGEST_INTERFACE = 15
"""IFNAMSIZ of the kernel, less its terminating zero."""
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""`token` of RFC 9110 section 5.6.2."""
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Problem = tuple[str, str]
"""The key below the check that is wrong (`http.status`), and one sentence that says what is
allowed."""


def problems(check: Check) -> list[Problem]:
    """Return one problem for each value that cannot work; empty: all is well."""
    return [*_general(check), *_kind(check.kind)]


def _general(check: Check) -> Iterator[Problem]:
    if not SHORTEST_INTERVAL <= check.interval <= LONGEST:
        yield (
            "interval",
            f"{check.interval:g}s is outside {SHORTEST_INTERVAL * 1000:g}ms..{LONGEST / 3600:g}h",
        )
    if not SHORTEST_TIMEOUT <= check.timeout <= LONGEST:
        yield (
            "timeout",
            f"{check.timeout:g}s is outside {SHORTEST_TIMEOUT * 1000:g}ms..{LONGEST / 3600:g}h",
        )
    for key, count in (("rise", check.rise), ("fall", check.fall)):
        if not 1 <= count <= MOST_RESULTS:
            yield key, f"{count} is outside 1..{MOST_RESULTS}"
    if isinstance(check.on_fail, Weight):
        points = check.on_fail.points
        if points == 0 or abs(points) > HEAVIEST:
            yield (
                "on_fail.weight",
                f"{points} is not a weight: -{HEAVIEST}..{HEAVIEST}, and 0 would change nothing",
            )


def _kind(kind: Kind) -> Iterator[Problem]:
    match kind:
        case HttpCheck():
            yield from _url(kind)
            yield from _request(kind)
            yield from _answer(kind)
        case TcpCheck(host, port):
            if not host:
                yield "tcp.host", "is empty: give an address or a name"
            if not 1 <= port <= 65535:  # noqa: PLR2004 - the range of a port is its own name
                yield "tcp.port", f"{port} is outside 1..65535"
        case InterfaceCheck(interface):
            bad = (
                not interface
                or len(interface) > LONGEST_INTERFACE
                or re.search(r"[\s/:]", interface)
                or interface in {".", ".."}
            )
            if bad:
                yield "interface.interface", f"{interface!r} is not the name of an interface"


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL, or None if it has no usable scheme, host or port."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _url(kind: HttpCheck) -> Iterator[Problem]:
    parts = _split(kind.url)
    if parts is None or re.search(r"\s", kind.url) or not kind.url.isascii():
        yield "http.url", f"{kind.url!r} is not an http:// or https:// URL with a host"
        return
    if kind.unix_socket:
        if parts.scheme == "https":
            yield (
                "http.unix_socket",
                "carries plain http only: use an http:// URL, or a host and port for https",
            )
        if (
            not kind.unix_socket.startswith("/")
            or len(kind.unix_socket.encode()) > LONGEST_SOCKET_PATH
        ):
            yield (
                "http.unix_socket",
                f"must be an absolute path of at most {LONGEST_SOCKET_PATH} bytes",
            )
    if kind.ca_file and parts.scheme != "https":
        yield "http.ca_file", "has no meaning for an http:// URL"
    if kind.ca_file and not kind.verify:
        yield "http.verify", "false would not look at ca_file: drop one of the two"


def _request(kind: HttpCheck) -> Iterator[Problem]:
    if not TOKEN.fullmatch(kind.method):
        yield "http.method", f"{kind.method!r} is not an HTTP method"
    if CONTROL.search(kind.host) or re.search(r"\s", kind.host):
        yield "http.host", "must not contain blanks or control characters"
    for name, value in kind.headers:
        if not TOKEN.fullmatch(name):
            yield "http.headers", f"{name!r} is not the name of a header"
        if CONTROL.search(value):
            yield "http.headers", f"the value of {name!r} contains control characters"


def _answer(kind: HttpCheck) -> Iterator[Problem]:
    if not kind.status:
        yield "http.status", "is empty: no answer would ever be good"
    for low, high in kind.status:
        if not 100 <= low <= high <= 599:  # noqa: PLR2004 - the range of a status is its own name
            yield "http.status", f"{low}-{high} is not a range within 100-599"
    if kind.body:
        try:
            re.compile(kind.body)
        except re.error as error:
            yield "http.body", f"is not a regular expression: {error}"
