"""Turns a configuration file into bytes that a daemon can start from, in a process of its own.

YAML and pydantic take 100 ms and 15 MB: neither the guard, which stays small, nor the daemon, which starts again after a crash
from the same bytes, is to carry them. The bytes are a pickle of `vipd.config.Config`; only this program's own child writes them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys

from vipd.config_findings import Finding
from vipd.config_load import examine

OK = 0
FAILED = 1
INVALID = 2


def main(path: str, fd: int) -> int:
    """Write the configuration of the file to the descriptor and close it; return 0, or 2 if the file has errors, or 1.

    All findings, warnings too, go to stderr. With errors nothing is written.
    """
    examined = examine(path)
    try:
        for finding in examined.findings:
            sys.stderr.write(_line(finding))
        if examined.config is None:
            return INVALID
        _write(fd, pickle.dumps(examined.config))
    except OSError as error:
        sys.stderr.write(f"cannot hand over the configuration of {path}: {error.strerror}\n")
        return FAILED
    else:
        return OK
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def _line(finding: Finding) -> str:
    """Return the finding as a line; the journal takes its weight from a number in front (sd-daemon(3))."""
    prefix = ("<4>" if finding.warning else "<3>") if os.environ.get("JOURNAL_STREAM") else ""
    return f"{prefix}{finding}\n"


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
