"""Turns a configuration file into bytes that a daemon can start from, in a process of its own.

YAML and pydantic take 100 ms and 15 MB: neither the guard, which stays small, nor the daemon, which
starts again after a crash from the same bytes, is to carry them. The bytes are a pickle of
`vipd.config.values.Config`; only this program's own child writes them.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import sys

from vipd.clock import unix
from vipd.config.findings import NOWHERE, Finding, Findings
from vipd.config.load import examine
from vipd.config.values import Config, Gate, LogFormat
from vipd.config.yaml import read_tree
from vipd.guard import installed
from vipd.guard.preparation import LOG_FORMAT, Header, packed
from vipd.observe import log_line

OK = 0
FAILED = 1
INVALID = 2


def main(path: str, fd: int) -> int:
    """Write the configuration of the file to the descriptor and close it.

    Return 0, or 2 if the file has errors, or 1.

    All findings, warnings too, go to stderr. With errors only a header is written that says what is
    wrong. What this host cannot do is an error here, not only in the daemon: on a reload the one
    that runs has to go on.
    """
    examined = examine(path)
    as_json = wants_json(path, examined.config)
    try:
        findings = [*examined.findings, *_impossible(path, examined.config)]
        for finding in findings:
            sys.stderr.write(_line(finding, as_json=as_json))
        errors = [str(finding) for finding in findings if not finding.warning]
        if examined.config is None or errors:
            _write(fd, packed(Header(refused=_summary(path, errors))))
            return INVALID
        _write(
            fd, packed(Header(json=as_json, code=installed.digest()), canonical(examined.config))
        )
    except OSError as error:
        sys.stderr.write(f"cannot hand over the configuration of {path}: {error.strerror}\n")
        return FAILED
    else:
        return OK
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def _impossible(path: str, config: Config | None) -> list[Finding]:
    """Return what the configuration requires and this process, which has the guard's rights, cannot
    have; and the host's objections.
    """
    if config is None:
        return []
    from vipd.config.own_addresses import findings_here  # noqa: PLC0415 -- a file with errors needs no netlink

    here = findings_here(path, config)
    if config.fence.gate is not Gate.REQUIRE:
        return here
    from announce.gate.support import probe_support  # noqa: PLC0415 -- only who requires the gate needs it

    why = probe_support()
    if why:
        here.append(
            Finding(
                path,
                NOWHERE,
                ("fence", "gate"),
                f"is {Gate.REQUIRE}, and the kernel's gate cannot be had: {why}",
            )
        )
    return here


def wants_json(path: str, config: Config | None) -> bool:
    """Whether the log is to be JSON.

    By the file, also if something else in it is wrong, or by the configuration that runs.
    """
    if config is not None:
        return config.log.format is LogFormat.JSON
    settings = read_tree(Findings(path), os.environ).get("log")
    said = settings.get("format") if isinstance(settings, dict) else None
    return (
        said == LogFormat.JSON
        if isinstance(said, str)
        else os.environ.get(LOG_FORMAT) == LogFormat.JSON
    )


def canonical(config: Config) -> bytes:
    """Return a configuration's bytes, the same for all that are equal.

    Without references to values that were the same object.
    """
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer)
    pickler.fast = True
    pickler.dump(config)
    return buffer.getvalue()


def _summary(path: str, errors: list[str]) -> str:
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{errors[0]}{more}" if errors else f"{path} cannot be used"


def _line(finding: Finding, *, as_json: bool) -> str:
    """Return the finding as a line.

    The journal takes its weight from a number in front (sd-daemon(3)).
    """
    level = "warning" if finding.warning else "error"
    if as_json:
        when = unix()
        return log_line.as_json(when, level, "vipd.config", str(finding), {}) + "\n"
    prefix = f"<{log_line.PRIORITIES[level]}>" if os.environ.get("JOURNAL_STREAM") else ""
    return f"{prefix}{finding}\n"


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
