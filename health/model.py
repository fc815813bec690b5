"""The words of health checks: what is checked, what a try found, and what follows from it.

Everything here is a frozen value that can be pickled. Durations are seconds (float). `problems.py`
says which values make no sense.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import ClassVar

# ---------------------------------------------------------------- what is checked


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """One HTTP/1.1 request on a new connection; good if status and body are as wanted.

    Redirects are answers like any other.

    `status` holds inclusive ranges. `body` is a regular expression searched in the first 64 KiB,
    read as UTF-8; empty: the body is not read at all, status line and headers decide. `host`
    replaces the Host header and, with https, the name sent (SNI) and verified. `unix_socket` is the
    path of a socket to use instead of the URL's host and port. `ca_file` replaces the system's CAs.
    """

    label: ClassVar[str] = "http"
    url: str
    method: str = "GET"
    status: tuple[tuple[int, int], ...] = ((200, 299),)
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    host: str = ""
    unix_socket: str = ""
    ca_file: str = ""
    verify: bool = True


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """A connection is accepted.

    The kernel accepts for a process that hangs, too: prefer http where there is an answer to ask
    for.
    """

    label: ClassVar[str] = "tcp"
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class InterfaceCheck:
    """An interface is up and has its carrier.

    It is told by link events (`LinkState`) and asks nobody.
    """

    label: ClassVar[str] = "interface"
    interface: str


Kind = HttpCheck | TcpCheck | InterfaceCheck


@dataclass(frozen=True, slots=True)
class Fault:
    """While the check fails, the node is not fit to hold the VIP."""


@dataclass(frozen=True, slots=True)
class Weight:
    """Points of priority, -253..253 without 0.

    As in keepalived: negative, added while the check fails; positive, while it succeeds.
    """

    points: int


OnFail = Fault | Weight


class OnUnknown(enum.StrEnum):
    """What a try that could not tell (`Result.up` is None) does to a check that has a verdict."""

    KEEP = "keep"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One configured check.

    `rise` good results in a row make it up, `fall` bad ones down; a try lasts at most `timeout`
    seconds.
    """

    name: str
    kind: Kind
    interval: float = 0.5
    timeout: float = 0.4
    rise: int = 2
    fall: int = 2
    on_fail: OnFail = Fault()
    on_unknown: OnUnknown = OnUnknown.KEEP


# ---------------------------------------------------------------- what is seen


@dataclass(frozen=True, slots=True)
class LinkState:
    """An interface as the kernel reports it; None: it cannot be told at the moment.

    Pushed in with `Runner.link`.
    """

    interface: str
    up: bool | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One try: good, bad, or None.

    It could not be told (no file descriptor left, no name server answered).

    `refused` is proof rather than suspicion (refused, reset, link down): waiting for the interval
    would teach nothing, so the next try follows at once.
    """

    up: bool | None
    detail: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks of an instance in one.

    `fit` None: undecided, some check has not had its first say.

    `weight` is what to add to the priority, `failing` names the checks that are down in the order
    of the configuration, `detail` is one sentence on them, or on what is waited for; empty if all
    is well.
    """

    fit: bool | None
    weight: int = 0
    failing: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """One check for `vipd status`.

    `up` is the verdict (None: undecided), `since` the clock's time of its last change. `detail` and
    `seconds` belong to the last try (0.0: none yet); `consecutive` is how many counted results in a
    row were like the last counted one.
    """

    name: str
    kind: str
    up: bool | None
    since: float
    detail: str
    seconds: float
    consecutive: int


def is_address(host: str) -> bool:
    """Return whether a host is given as an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
