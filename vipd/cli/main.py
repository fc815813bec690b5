"""The command line: `vipd COMMAND …`. Each command imports what it needs, and nothing else.

Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 cannot reach the daemon, 4 refused (the sentence says why).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vipd.config.defaults import CONFIG_FILE

if TYPE_CHECKING:
    import argparse

    from vipd.config.values import Config
    from vipd.control.status import Status

DONE, FAILED, USAGE, UNREACHABLE, REFUSED = range(5)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    path = _run_only(words)
    if path:
        # The guard stays in memory for as long as the node lives, and argparse with it if it was ever imported.
        return _guard(path)
    closed = _standard_output_closed()
    for stream in (sys.stdout, sys.stderr):
        # A locale without UTF-8 must not turn the name of a node into a traceback.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    args = _parser().parse_args(["version"] if words == ["--version"] else words)
    command: Callable[[argparse.Namespace], int] = args.function
    try:
        code = command(args)
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
    """Return whether there is no standard output (`vipd status >&-`), and open /dev/null in its place.

    Without that the next socket or file that is opened would get descriptor 1, and the output with it.
    """
    if sys.stdout is not None:
        return False
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - no pathlib for `run`; open until the end
    return True


def _discard_output() -> None:
    """Send what is still buffered nowhere: it could not be written before, and Python would try again at its end."""
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


def _parser() -> argparse.ArgumentParser:
    import argparse  # noqa: PLC0415 - see main

    parser = argparse.ArgumentParser(prog="vipd", description="One virtual IP for several nodes, on one that works.", allow_abbrev=False)
    parser.add_argument("--version", action="store_true", help="the same as the command version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(function=function)
        return added

    for name, function, text in (
        ("run", _run, "run in the foreground; SIGTERM hands over and stops, SIGHUP reloads"),
        ("check", _check, "check the configuration: all findings, and what it promises"),
        ("release", _release, "clean up by hand after a dead daemon: addresses, then leases"),
    ):
        command(name, function, text).add_argument("-c", "--config", metavar="FILE", default=CONFIG_FILE, help=f"default {CONFIG_FILE}")
    before = (
        "as before a reload: also whether what runs is the version installed; what is wrong, the guard PID reads for status and metrics"
    )
    check = commands.choices["check"]
    check.add_argument("--reload", metavar="PID", nargs="?", type=int, const=0, help=before)
    check.add_argument("file", metavar="FILE", nargs="?", help="the same as -c FILE")
    status = command("status", _status, "this node and the whole group: who, since when, why")
    status.add_argument("instance", metavar="INSTANCE", nargs="?", default="", help="all about this one; default: all of them")
    status.add_argument("-v", "--verbose", action="store_true", help="all about each, also where there are many")
    status.add_argument("--json", action="store_true", help="the status document (schema version 1)")
    handover = command("handover", _handover, "move an instance to another node as planned, without loss")
    handover.add_argument("instance", metavar="INSTANCE", help="its name, or that of its group: all of a group move together")
    where = handover.add_mutually_exclusive_group()
    where.add_argument("--to", metavar="NODE", default="", help="the node to move to; default: the best one")
    where.add_argument("--auto", action="store_true", help="unpin: give the choice back to the priorities")
    drain = command("drain", _drain, "take this node out of all elections, also after a restart")
    drain.add_argument("--force", action="store_true", help="even if no other node is fit")
    resume = command("resume", _resume, "take part in the elections again")
    for client in (status, handover, drain, resume):
        which = client.add_mutually_exclusive_group()
        which.add_argument("-c", "--config", metavar="FILE", help=f"ask the daemon of this file; default {CONFIG_FILE}")
        which.add_argument("--socket", metavar="PATH", help="ask the daemon behind this control socket")
    demo = command("demo", _demo, "the product at work, in network namespaces of this machine (needs root)")
    demo.add_argument("--nodes", type=int, choices=range(2, 10), default=3, metavar="N", help="2..9, default 3")
    demo.add_argument("--backend", choices=("file", "etcd"), help="default: etcd where it is installed")
    demo.add_argument("--json", action="store_true", help="the results as JSON")
    command("version", _version, "print the version")
    return parser


# ---------------------------------------------------------------- commands on this host


def _guard(path: str) -> int:
    from vipd.guard import guard  # noqa: PLC0415 - only this command needs it

    return guard.run(path)


def _run(args: argparse.Namespace) -> int:
    return _guard(args.config)


def _check(args: argparse.Namespace) -> int:
    from vipd.cli.gate_here import gate_here  # noqa: PLC0415 - likewise
    from vipd.cli.service_user import unreadable  # noqa: PLC0415 - only this command needs it
    from vipd.config.load import examine  # noqa: PLC0415 - YAML and pydantic take 200 ms
    from vipd.config.own_addresses import findings_here  # noqa: PLC0415 - likewise
    from vipd.config.promises import promises  # noqa: PLC0415 - likewise

    path = args.file or args.config
    examined = examine(path)
    findings = [*examined.findings, *(findings_here(path, examined.config) if examined.config else ())]
    for finding in findings:
        print(finding)
    errors = sum(not finding.warning for finding in findings)
    if examined.config is None or errors:
        print(f"{path} is not valid: {errors} error{'s' if errors > 1 else ''}")
        return _refused(args, USAGE)
    for sentence in unreadable(path, examined.config):
        print(f"{path}: warning: {sentence}")
    print(f"{path} is valid")
    if args.reload is not None:
        return DONE if _is_current(examined.config) else _refused(args, REFUSED)
    for sentence in [*promises(examined.config), *gate_here(examined.config), *_obstacles_here(examined.config)]:
        print(f"  {sentence}")
    return DONE


def _obstacles_here(config: Config) -> list[str]:
    """Say which addresses the kernel of this host would refuse as things are."""
    from announce.kernel.obstacles import obstacle  # noqa: PLC0415 - only this command needs it

    found = [(instance.name, obstacle(instance.interface, instance.addresses)) for instance in config.instances]
    return [f"{name}: here and now {why}" for name, why in found if why]


def _refused(args: argparse.Namespace, code: int) -> int:
    from vipd.cli.reloadable import let_guard_look  # noqa: PLC0415 - only this command needs it

    if args.reload:
        let_guard_look(args.reload)
    return code


def _is_current(config: Config) -> bool:
    from vipd.cli.reloadable import outdated  # noqa: PLC0415 - only this command needs it

    why = outdated(config.control_socket)
    if why:
        print(f"refused: {why}; nothing changes", file=sys.stderr)
    return not why


def _load(path: str) -> Config | None:
    """Return a configuration, or print why there is none."""
    from vipd.config.load import examine  # noqa: PLC0415 - YAML and pydantic take 200 ms

    examined = examine(path)
    for finding in examined.findings:
        print(finding, file=sys.stderr)
    return examined.config


def _release(args: argparse.Namespace) -> int:
    config = _load(args.config)
    if config is None:
        return USAGE
    from vipd.cli import release  # noqa: PLC0415 - only this command needs it

    return release.main(config)


def _demo(args: argparse.Namespace) -> int:
    from vipd import demo  # noqa: PLC0415 - no part of the daemon

    return demo.main(args)


def _version(_args: argparse.Namespace) -> int:
    import platform  # noqa: PLC0415 - only this command needs it

    from vipd.version import VERSION  # noqa: PLC0415 - likewise

    print(f"vipd {VERSION} (Python {platform.python_version()}, Linux {platform.release()})")
    return DONE


# ---------------------------------------------------------------- commands to the daemon


def _status(args: argparse.Namespace) -> int:
    def show(document: dict[str, object]) -> None:
        _print_status(document, args.instance, whole=args.verbose)

    return _tell(args, "status", {}, _print_json if args.json else show)


def _handover(args: argparse.Namespace) -> int:
    arguments = {"instance": args.instance, "to": args.to, "auto": args.auto}
    return _tell(args, "handover", arguments, _print_message)


def _drain(args: argparse.Namespace) -> int:
    return _tell(args, "drain", {"force": args.force}, _print_message)


def _resume(args: argparse.Namespace) -> int:
    return _tell(args, "resume", {}, _print_message)


def _tell(args: argparse.Namespace, command: str, arguments: dict[str, object], show: Callable[[dict[str, object]], None]) -> int:
    from vipd.control import client  # noqa: PLC0415 - `run` needs no client

    path = args.socket or _socket_of(args.config)
    if not path:
        return USAGE
    try:
        show(client.request(path, command, arguments))
    except client.UnreachableError as error:
        print(error, file=sys.stderr)
        return UNREACHABLE
    except client.RefusedError as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    except client.FailedError as error:
        print(f"failed: {error}", file=sys.stderr)
        return FAILED
    return DONE


def _socket_of(config: str | None) -> str:
    """Return the control socket that a file names; empty after saying why that cannot be told."""
    from vipd.config.socket import control_socket  # noqa: PLC0415 - needs YAML

    path, errors = control_socket(config or CONFIG_FILE, required=config is not None)
    for error in errors:
        print(error, file=sys.stderr)
    return path


def _print_json(result: dict[str, object]) -> None:
    import json  # noqa: PLC0415 - `run` needs none

    print(json.dumps(result, indent=2))


def _print_message(result: dict[str, object]) -> None:
    print(result.get("message") or "done")


def _print_status(result: dict[str, object], instance: str, *, whole: bool) -> None:
    import shutil  # noqa: PLC0415 - `run` needs none

    from vipd.cli.status_view import render  # noqa: PLC0415 - likewise
    from vipd.control.client import FailedError  # noqa: PLC0415 - likewise
    from vipd.control.status import SchemaError, from_json  # noqa: PLC0415 - likewise

    terminal = sys.stdout.isatty()
    # https://no-color.org: set and not empty, whatever the value.
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    width = shutil.get_terminal_size().columns if terminal else 0
    try:
        document = from_json(result)
    except SchemaError as error:
        raise FailedError(str(error)) from error
    if instance:
        document = _only(document, instance)
    print(render(document, colour=colour, width=width, whole=whole or bool(instance)))


def _only(document: Status, name: str) -> Status:
    """Return the document with this instance, or the instances of this group, only. Raises RefusedError if there is none."""
    from dataclasses import replace  # noqa: PLC0415 - `run` needs none

    from vipd.control.client import RefusedError  # noqa: PLC0415 - likewise

    chosen = tuple(one for one in document.instances if name in {one.name, one.group})
    if not chosen:
        known = ", ".join(one.name for one in document.instances) or "none"
        raise RefusedError(f"there is no instance {name!r} here; there is {known}")
    return replace(document, instances=chosen)
