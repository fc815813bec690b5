"""How the daemon writes its log.

One line for each change to stderr, as text for people or JSON for collectors.

What belongs to a line besides its sentence goes along as fields:

    log.info("Backup -> Active (lease_expired)", extra=fields(instance="ingress", state="Active",
    epoch=7))

A log that nobody reads must not stop the election: a reader that stands still (a full pipe, a
stopped terminal) costs lines, never time. The next line that gets through says how many are
missing.
"""

from __future__ import annotations

import json
import logging
import os
import select
from collections.abc import Mapping

from vipd.config.values import Log, LogFormat
from vipd.observe.log_line import as_json, as_text, is_journal, printable

STDERR = 2
OWN = ("vipd", "election", "announce", "health")
"""Loggers that obey the configured level; libraries are heard from WARNING on."""
CHUNK = 4096
"""PIPE_BUF: a pipe that polls as writable takes this much without waiting (pipe(7))."""


def fields(**values: object) -> dict[str, object]:
    """Return what to pass as `extra` so that a line carries these values."""
    return {"fields": values}


def configure(settings: Log, fd: int = STDERR, environ: Mapping[str, str] = os.environ) -> None:
    """Send the whole process's log to the descriptor.

    Called once for each process, again after a fork at will.
    """
    formatter = (
        JsonFormatter()
        if settings.format is LogFormat.JSON
        else TextFormatter(journal=is_journal(fd, environ))
    )
    handler = UnwaitingHandler(fd)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in OWN:
        logging.getLogger(name).setLevel(settings.level.upper())
    logging.captureWarnings(capture=True)


def _values(record: logging.LogRecord) -> dict[str, object]:
    found = getattr(record, "fields", None)
    return found if isinstance(found, dict) else {}


class TextFormatter(logging.Formatter):
    """`2026-11-21 10:57:01.123 info    sentence key=value`.

    The journal has time and level of its own.
    """

    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and those of an exception below it."""
        text = " ".join(
            [
                printable(record.getMessage()),
                *(f"{key}={_quoted(value)}" for key, value in _values(record).items()),
            ]
        )
        return as_text(
            record.created,
            record.levelname.lower(),
            text,
            _exception(self, record).splitlines(),
            journal=self._journal,
        )


class JsonFormatter(logging.Formatter):
    """One object a line.

    Time (UTC), level, logger, message, then the fields, and exception if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        values = dict(_values(record))
        if trace := _exception(self, record):
            values["exception"] = trace
        return as_json(
            record.created, record.levelname.lower(), record.name, record.getMessage(), values
        )


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _quoted(value: object) -> str:
    text = printable(str(value))
    return (
        json.dumps(text, ensure_ascii=False)
        if not text or " " in text or '"' in text or "=" in text
        else text
    )


class UnwaitingHandler(logging.Handler):
    """Writes to a descriptor and never waits for it; what does not fit is dropped and counted."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._dropped = 0
        self._torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, after a remark on those that were lost before it."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a bad argument to a log call must not become a fault of the daemon
            line = f"a line of the log could not be made: {type(error).__name__}: {error}"
        remark = (
            f"{self._dropped} lines of the log were lost: nobody read them\n"
            if self._dropped
            else ""
        )
        text = ("\n" if self._torn else "") + remark + line + "\n"
        self._write(text.encode("utf-8", "backslashreplace"))

    def _write(self, data: bytes) -> None:
        sent = 0
        while sent < len(data):
            if not self._writable():
                self._torn = self._torn or sent > 0
                self._dropped += 1
                return
            try:
                sent += os.write(self._fd, data[sent : sent + CHUNK])
            except OSError:
                # Nobody is left at the other end, and there is no other place to complain.
                self._dropped += 1
                return
        self._dropped, self._torn = 0, False

    def _writable(self) -> bool:
        return any(events & select.POLLOUT for _, events in self._poll.poll(0))
