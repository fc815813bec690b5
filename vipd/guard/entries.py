"""What runs in the guard's children, by name: the guard itself imports none of it.

Each function is called in a freshly forked process and imports what it needs there. Tests put
others in their place.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vipd.guard.link import GuardLink


def _prepare(path: str, descriptor: int) -> int | None:
    result: int | None = importlib.import_module("vipd.config.prepare").main(path, descriptor)
    return result


def _import_common() -> None:
    importlib.import_module("vipd.daemon.preload").common()


def _preload(blob: bytes) -> object:
    # Our own child wrote it, through a pipe that nobody else has.
    config: object = importlib.import_module("pickle").loads(blob)
    importlib.import_module("vipd.daemon.preload").preload(config)
    return config


def _daemon(config: Any, link: GuardLink) -> int:  # noqa: ANN401 -- the guard does not know what a configuration is
    code: int = importlib.import_module("vipd.daemon.daemon").main(config, link)
    return code


@dataclass(frozen=True, slots=True)
class Entries:
    """The children's main functions.

    `prepare` validates the file and writes the configuration's bytes to a descriptor; it returns
    (or exits with) 2 if the file cannot be used. `common` and `preload` import what any and what
    this configuration's daemon needs, start no thread, and `preload` returns the configuration.
    `daemon` runs until it is asked to stop and returns its exit code.
    """

    prepare: Callable[[str, int], int | None] = _prepare
    common: Callable[[], None] = _import_common
    preload: Callable[[bytes], object] = _preload
    daemon: Callable[[Any, GuardLink], int] = _daemon
