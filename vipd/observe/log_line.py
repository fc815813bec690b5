"""How one line of the log looks, for daemon, guard and helpers alike.

Text for people, JSON for collectors.

Standard library only, and little of it: the guard writes its lines with this too. Text has the
host's local time, as the journal shows it, JSON has UTC.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence

PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""The numbers of syslog(3), which the journal takes from a `<n>` in front of a line
(sd-daemon(3))."""


def is_journal(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Whether the descriptor is the very stream that systemd named.

    A child's redirected stderr is not (systemd.exec(5)).
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"


def as_text(when: float, level: str, text: str, below: Sequence[str] = (), *, journal: bool) -> str:
    """Return `2026-11-21 10:57:01.123 warning  text` (when: Unix time), and the lines that belong
    below it.

    The journal has time and level of its own: there it is `<4>text`.
    """
    further = [f"    {line}" for line in below]
    if journal:
        return "\n".join(f"<{PRIORITIES.get(level, 6)}>{line}" for line in (text, *further))
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    return "\n".join([f"{stamp}.{int(when % 1 * 1000):03d} {level:8} {text}", *further])


def as_json(when: float, level: str, logger: str, text: str, values: Mapping[str, object]) -> str:
    """Return one object: time (UTC), level, logger, message; `values` besides."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))
    line = {
        "time": f"{stamp}.{int(when % 1 * 1000):03d}Z",
        "level": level,
        "logger": logger,
        "message": text,
    }
    return json.dumps({**values, **line}, default=str)


def printable(text: str) -> str:
    """Return the text on one line, with everything unprintable as an escape.

    A name from a store must not forge a line of the log, nor a file's content drive the terminal.
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
