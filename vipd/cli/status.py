"""`vipd status`: asks the running daemon for the status document and shows it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import replace

from vipd.cli.ask import ask
from vipd.cli.status_view import render
from vipd.control.errors import FailedError, RefusedError, SchemaError
from vipd.control.status import Status, from_json


def main(args: argparse.Namespace) -> int:
    """Show the document; `args`: instance (empty: all), verbose, json. Return the exit code."""

    def show(document: dict[str, object]) -> None:
        _print_status(document, args.instance, whole=args.verbose)

    return ask(args, "status", {}, _print_json if args.json else show)


def _print_json(result: dict[str, object]) -> None:
    print(json.dumps(result, indent=2))


def _print_status(result: dict[str, object], instance: str, *, whole: bool) -> None:
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
    """Return the document with this instance, or the instances of this group, only.

    Raises RefusedError if there is none.
    """
    chosen = tuple(one for one in document.instances if name in {one.name, one.group})
    if not chosen:
        known = ", ".join(one.name for one in document.instances) or "none"
        raise RefusedError(f"there is no instance {name!r} here; there is {known}")
    return replace(document, instances=chosen)
