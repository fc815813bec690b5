"""Turns a configuration file into bytes that a daemon can start from, in a process of its own.

YAML and pydantic take 100 ms and 15 MB: neither the guard, which stays small, nor the daemon, which starts again after a crash
from the same bytes, is to carry them. The bytes are a pickle of `vipd.config.Config`; only this program's own child writes them.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys

from vipd.config import Config, Gate
from vipd.config_findings import NOWHERE, Finding
from vipd.config_load import examine

OK = 0
FAILED = 1
INVALID = 2


def main(path: str, fd: int) -> int:
    """Write the configuration of the file to the descriptor and close it; return 0, or 2 if the file has errors, or 1.

    All findings, warnings too, go to stderr. With errors nothing is written. What this host cannot do is an error here, not
    only in the daemon: on a reload the one that runs has to go on.
    """
    examined = examine(path)
    try:
        findings = [*examined.findings, *_impossible(path, examined.config)]
        for finding in findings:
            sys.stderr.write(_line(finding))
        if examined.config is None or not all(finding.warning for finding in findings):
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


def _impossible(path: str, config: Config | None) -> list[Finding]:
    """Return what the configuration requires and this process, which has the guard's rights, cannot have; and the host's objections."""
    if config is None:
        return []
    from vipd.config_own import findings_here  # noqa: PLC0415 -- a file with errors needs no netlink

    here = findings_here(path, config)
    if config.fence.gate is not Gate.REQUIRE:
        return here
    from announce.gate_support import probe_support  # noqa: PLC0415 -- only who requires the gate needs it

    why = probe_support()
    if why:
        here.append(Finding(path, NOWHERE, ("fence", "gate"), f"is {Gate.REQUIRE}, and the kernel's gate cannot be had: {why}"))
    return here


def _line(finding: Finding) -> str:
    """Return the finding as a line; the journal takes its weight from a number in front (sd-daemon(3))."""
    prefix = ("<4>" if finding.warning else "<3>") if os.environ.get("JOURNAL_STREAM") else ""
    return f"{prefix}{finding}\n"


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
