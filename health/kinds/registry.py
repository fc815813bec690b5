"""Which probe belongs to which kind of check.

The libraries of a kind are imported only if it is configured.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import assert_never
from urllib.parse import urlsplit

from health.kinds.interface import InterfaceProbe
from health.kinds.probe import Probe
from health.kinds.tcp import TcpProbe
from health.kinds.workers import Workers
from health.model import Check, HttpCheck, InterfaceCheck, TcpCheck, is_address
from health.names import is_localhost


def preload(checks: Iterable[Check]) -> None:
    """Import what these checks need, so that a process forked from here need not (aiohttp: 150 ms
    and 12 MB).
    """
    kinds = [check.kind for check in checks]
    if any(isinstance(kind, HttpCheck) for kind in kinds):
        importlib.import_module("health.kinds.http")
    if any(_names_a_host(kind) for kind in kinds):
        importlib.import_module("health.resolve")


def _names_a_host(kind: HttpCheck | TcpCheck | InterfaceCheck) -> bool:
    """Return whether a name server may have to be asked.

    The hosts file may save that, and may change.
    """
    match kind:
        case HttpCheck():
            host = "" if kind.unix_socket else urlsplit(kind.url).hostname or ""
        case TcpCheck():
            host = kind.host
        case InterfaceCheck():
            host = ""
        case _:
            assert_never(kind)
    return bool(host) and not is_address(host) and not is_localhost(host)


def open_probe(check: Check, workers: Workers) -> Probe:
    """Return the probe of a check.

    Opens nothing yet; blocks while its library is imported unless `preload` was called.
    """
    match check.kind:
        case HttpCheck() as kind:
            from health.kinds.http import HttpProbe  # noqa: PLC0415 - see above

            return HttpProbe(kind, workers)
        case TcpCheck() as kind:
            return TcpProbe(kind, workers.names)
        case InterfaceCheck() as kind:
            return InterfaceProbe(kind)
        case _:
            assert_never(check.kind)
