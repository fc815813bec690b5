"""Which probe belongs to which kind of check. The libraries of a kind are imported only if it is configured."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import assert_never

from health.kinds.interface import InterfaceProbe
from health.kinds.probe import Probe
from health.kinds.tcp import TcpProbe
from health.kinds.workers import Workers
from health.model import Check, HttpCheck, InterfaceCheck, TcpCheck
from health.names import Names


def preload(checks: Iterable[Check]) -> None:
    """Import what these checks need, so that a process forked from here need not (aiohttp: 150 ms and 12 MB)."""
    if any(isinstance(check.kind, HttpCheck) for check in checks):
        importlib.import_module("health.kinds.http")


def open_probe(check: Check, names: Names, workers: Workers) -> Probe:
    """Return the probe of a check. Opens nothing yet; blocks while its library is imported unless `preload` was called."""
    match check.kind:
        case HttpCheck() as kind:
            from health.kinds.http import HttpProbe  # noqa: PLC0415 - see above

            return HttpProbe(kind, names, workers)
        case TcpCheck() as kind:
            return TcpProbe(kind, names)
        case InterfaceCheck() as kind:
            return InterfaceProbe(kind)
        case _:
            assert_never(check.kind)
