"""The code that runs, and the code that is installed: after an upgrade in place they differ.

    1. a new version is installed over the one that runs, 2. somebody reloads: the guard is the old
    code, and the daemon that it
    would start is the new one, made for another guard. So a reload is refused then, and the whole
    service has to be restarted.

Standard library only, imported by the guard at its start, so that it compares with what it was then
itself.
"""

from __future__ import annotations

import os
import re
import zlib

from vipd.version import VERSION

PACKAGES = ("announce", "election", "health", "vipd")
ADVICE = "run `systemctl restart vipd`"
CHANGED = f"another version of vipd was installed over the one that runs: {ADVICE}"
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 -- pathlib would cost the guard 0.4 MB
_VERSION = re.compile(rb'^VERSION = "([^"]*)"', re.MULTILINE)


def digest() -> str:
    """Return eight digits that stand for the content of all installed modules (3 ms).

    Empty if they cannot be read.
    """
    total = 0
    try:
        for package in PACKAGES:
            for path in _modules(f"{_ROOT}/{package}"):
                with open(path, "rb") as file:  # noqa: PTH123 -- likewise
                    total = zlib.crc32(file.read(), zlib.crc32(path.encode(), total))
    except OSError:
        return ""
    return f"{total:08x}"


def difference(running: str, version: str = VERSION) -> str:
    """Return how the installed code differs from that of a running vipd, with what to do; empty: it
    does not.
    """
    found = digest()
    if not running or found == running:
        return ""
    if not found:
        return (
            f"vipd {version} runs, and its installation is gone or cannot be read: {ADVICE} "
            "once it is there"
        )
    return (
        f"vipd {_installed_version()} ({found}) is installed, and {version} ({running}) runs: "
        f"{ADVICE}"
    )


def _modules(folder: str) -> list[str]:
    found: list[str] = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name != "__pycache__":
            found += _modules(entry.path)
        elif entry.name.endswith(".py"):
            found.append(entry.path)
    return found


def _installed_version() -> str:
    try:
        with open(f"{_ROOT}/vipd/version.py", "rb") as file:  # noqa: PTH123 -- likewise
            found = _VERSION.search(file.read())
    except OSError:
        return "?"
    return found[1].decode(errors="replace") if found else "?"
