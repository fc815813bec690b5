"""The command line: `vipd COMMAND …`.

Each command is a module, which is imported when it is given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vipd.cli.exit_codes import FAILED
from vipd.config.defaults import CONFIG_FILE

if TYPE_CHECKING:
    import argparse


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    path = _run_only(words)
    if path:
        # The guard stays in memory for as long as the node lives, and argparse with it if it was
        # ever imported.
        return _guard(path)
    closed = _standard_output_closed()
    for stream in (sys.stdout, sys.stderr):
        # A locale without UTF-8 must not turn the name of a node into a traceback.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    args = _parser().parse_args(["version"] if words == ["--version"] else words)
    try:
        code = _command(args.module, args.function)(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return FAILED
    except BrokenPipeError:
        # `vipd status | head`: whoever closes a pipe knows that it did.
        _discard_output()
        return FAILED
    except OSError as error:
        if error.filename is not None:
            print(f"failed: {error.filename}: {error.strerror}", file=sys.stderr)
            return FAILED
        _discard_output()
        print(f"failed: the output could not be written: {error.strerror}", file=sys.stderr)
        return FAILED
    if closed:
        print("failed: standard output is closed, so nothing was shown", file=sys.stderr)
        return code or FAILED
    return code


def _standard_output_closed() -> bool:
    """Return whether there is no standard output (`vipd status >&-`), and open /dev/null in its
    place.

    Without that the next socket or file that is opened would get descriptor 1, and the output with
    it.
    """
    if sys.stdout is not None:
        return False
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - no pathlib for `run`; open until the end
    return True


def _discard_output() -> None:
    """Send what is still buffered nowhere.

    It could not be written before, and Python would try again at its end.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_only(words: Sequence[str]) -> str:
    """Return the configuration file of a plain `run [-c FILE]`; empty: let argparse look at it."""
    match words:
        case ["run"]:
            return CONFIG_FILE
        case ["run", "-c" | "--config", path] if not path.startswith("-"):
            return path
        case _:
            return ""


def _guard(path: str) -> int:
    from vipd.guard import guard  # noqa: PLC0415 - only this command needs it

    return guard.run(path)


def _command(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    """Return what does a command; it returns the exit code."""
    import importlib  # noqa: PLC0415 - `run` needs none

    found: Callable[[argparse.Namespace], int] = getattr(
        importlib.import_module(f"vipd.cli.{module}"), function
    )
    return found


# ---------------------------------------------------------------- the words of each command


def _parser() -> argparse.ArgumentParser:
    import argparse  # noqa: PLC0415 - see main

    parser = argparse.ArgumentParser(
        prog="vipd",
        description="One virtual IP for several nodes, on one that works.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="the same as the command version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, text: str, module: str = "", function: str = "main"
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(module=module or name, function=function)
        return added

    _file_argument(
        command("run", "run in the foreground; SIGTERM hands over and stops, SIGHUP reloads")
    )
    _check_arguments(
        command("check", "check the configuration: all findings, and what it promises")
    )
    _file_argument(
        command("release", "clean up by hand after a dead daemon: addresses, then leases")
    )
    _client_commands(command)
    _demo_arguments(
        command("demo", "the product at work, in network namespaces of this machine (needs root)")
    )
    command("version", "print the version")
    return parser


def _client_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    clients = (
        command("status", "this node and the whole group: who, since when, why"),
        command(
            "handover",
            "move an instance to another node as planned, without loss",
            "orders",
            "handover",
        ),
        command(
            "drain", "take this node out of all elections, also after a restart", "orders", "drain"
        ),
        command("resume", "take part in the elections again", "orders", "resume"),
    )
    status, handover, drain, _ = clients
    _status_arguments(status)
    _handover_arguments(handover)
    drain.add_argument("--force", action="store_true", help="even if no other node is fit")
    for client in clients:
        which = client.add_mutually_exclusive_group()
        which.add_argument(
            "-c",
            "--config",
            metavar="FILE",
            help=f"ask the daemon of this file; default {CONFIG_FILE}",
        )
        which.add_argument(
            "--socket", metavar="PATH", help="ask the daemon behind this control socket"
        )


def _file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE", default=CONFIG_FILE, help=f"default {CONFIG_FILE}"
    )


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser)
    parser.add_argument(
        "--reload",
        metavar="PID",
        nargs="?",
        type=int,
        const=0,
        help="as before a reload: also whether what runs is the version installed; "
        "what is wrong, the guard PID reads for status and metrics",
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="the same as -c FILE")


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "instance",
        metavar="INSTANCE",
        nargs="?",
        default="",
        help="all about this one; default: all of them",
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="all about each, also where there are many"
    )
    parser.add_argument(
        "--json", action="store_true", help="the status document (schema version 1)"
    )


def _handover_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "instance",
        metavar="INSTANCE",
        help="its name, or that of its group: all of a group move together",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--to", metavar="NODE", default="", help="the node to move to; default: the best one"
    )
    where.add_argument(
        "--auto", action="store_true", help="unpin: give the choice back to the priorities"
    )


def _demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nodes", type=int, choices=range(2, 10), default=3, metavar="N", help="2..9, default 3"
    )
    parser.add_argument(
        "--backend", choices=("file", "etcd"), help="default: etcd where it is installed"
    )
    parser.add_argument(
        "--until", metavar="SCENARIO", default="", help="stop after this one; default: play all"
    )
    parser.add_argument("--json", action="store_true", help="the results as JSON")
