"""The process that reads the configuration file, as the guard sees it, and the form of what it
writes.

    <NUL><a JSON object, the header><newline><the configuration's bytes, for the daemon alone>

The guard never looks into the bytes. Without a header (a NUL first) all of it is bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

from vipd.guard.processes import fork

MARK = b"\0"
LOG_FORMAT = "VIPD_LOG_FORMAT"
"""Environment variable of that process: `json` if the running configuration wants the log so; a
file that is wrong cannot say."""
_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Header:
    """What the guard itself has to know: `json`: the log is to be JSON; `code`.

    The installed code; `refused`: what is wrong.
    """

    json: bool = False
    code: str = ""
    refused: str = ""


def packed(header: Header, blob: bytes = b"") -> bytes:
    """Return what the process writes."""
    return MARK + json.dumps(asdict(header)).encode() + b"\n" + blob


def unpacked(data: bytes) -> tuple[Header, bytes]:
    """Return header and bytes; a header that is torn says nothing."""
    if not data.startswith(MARK):
        return Header(), data
    head, _, blob = data[len(MARK) :].partition(b"\n")
    try:
        read = json.loads(head)
        return Header(bool(read["json"]), str(read["code"]), str(read["refused"])), blob
    except (ValueError, KeyError, TypeError):
        return Header(), blob


@dataclass(slots=True)
class Preparation:
    """The living process, and what it has written so far.

    `status` is its exit status once it was reaped.
    """

    pid: int
    pipe: int
    patient_until: float
    written: bytes = b""
    status: int | None = None

    @classmethod
    def start(cls, child: Callable[[int], int | None], patient_until: float) -> Preparation:
        """Fork a process that gets the descriptor to write to; raises OSError."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        try:
            return cls(fork(lambda: child(writing), keep={writing}), reading, patient_until)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)

    def read(self) -> bool:
        """Take in what has come; return whether all has, and the process was reaped."""
        try:
            while self.pipe >= 0:
                data = os.read(self.pipe, _CHUNK)
                self.written += data
                if not data:
                    self.close()
        except BlockingIOError:
            pass
        return self.pipe < 0 and self.status is not None

    def close(self) -> None:
        """Close the pipe. Idempotent."""
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1
