"""`vipd handover`, `vipd drain` and `vipd resume`: orders to the running daemon."""

from __future__ import annotations

import argparse

from vipd.cli.ask import ask


def handover(args: argparse.Namespace) -> int:
    """Move an instance; `args`.

    Instance, to (empty: the best node), auto (True: unpin). Return the exit code.
    """
    arguments = {"instance": args.instance, "to": args.to, "auto": args.auto}
    return ask(args, "handover", arguments, _print_message)


def drain(args: argparse.Namespace) -> int:
    """Take this node out of all elections; `args`: force. Return the exit code."""
    return ask(args, "drain", {"force": args.force}, _print_message)


def resume(args: argparse.Namespace) -> int:
    """Take part in the elections again; return the exit code."""
    return ask(args, "resume", {}, _print_message)


def _print_message(result: dict[str, object]) -> None:
    print(result.get("message") or "done")
