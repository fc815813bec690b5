"""What this host has to say about a configuration's interfaces.

Warnings only, since the file may be for another host.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator

from announce.kernel.interface import Interface, unsuitable
from vipd.config.findings import Findings, Path
from vipd.config.schema import ConfigDraft

Find = Callable[[str], Interface]
"""Returns what has this name; raises OSError: ENODEV if nothing has, anything else if that cannot
be told."""


def relate(draft: ConfigDraft, findings: Findings, find: Find) -> None:
    """Warn of interfaces that do not exist here and of those that cannot announce an address, each
    where it is first named.
    """
    own, checked = _first(_own(draft)), _first(_checked(draft))
    for name, path in own.items():
        exists, trouble = _seen(name, find)
        if not exists or trouble:
            findings.warn(
                path, trouble or f"{name} does not exist on this host; vipd waits until it appears"
            )
    for name in checked.keys() - own.keys():
        exists, _ = _seen(name, find)
        if not exists:
            findings.warn(
                checked[name],
                f"{name} does not exist on this host; the check fails until it appears",
            )


def _own(draft: ConfigDraft) -> Iterator[tuple[str, Path]]:
    for index, instance in enumerate(draft.instances or ()):
        if instance is not None and instance.interface is not None:
            yield instance.interface, ("instances", index, "interface")


def _checked(draft: ConfigDraft) -> Iterator[tuple[str, Path]]:
    for index, instance in enumerate(draft.instances or ()):
        for number, check in enumerate((instance and instance.checks) or ()):
            if (
                check is not None
                and check.interface is not None
                and check.interface.interface is not None
            ):
                yield (
                    check.interface.interface,
                    ("instances", index, "checks", number, "interface", "interface"),
                )


def _first(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    places: dict[str, Path] = {}
    for name, path in named:
        places.setdefault(name, path)
    return places


def _seen(name: str, find: Find) -> tuple[bool, str]:
    """Return whether an interface has this name, and why an address cannot be announced on it; if
    in doubt all is well.
    """
    try:
        return True, unsuitable(find(name))
    except OSError as error:
        return error.errno != errno.ENODEV, ""
