"""How a command asks the running daemon.

Finds its socket, sends one request, shows the answer or why there is none.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from vipd.cli.exit_codes import DONE, FAILED, REFUSED, UNREACHABLE, USAGE
from vipd.config.defaults import CONFIG_FILE, CONTROL_SOCKET
from vipd.config.socket import control_socket
from vipd.control import client
from vipd.control.errors import FailedError, RefusedError, UnreachableError

Show = Callable[[dict[str, object]], None]


def ask(args: argparse.Namespace, command: str, arguments: dict[str, object], show: Show) -> int:
    """Send a command and show its result; return the exit code.

    `args`: socket, config (None: not given).
    """
    path = args.socket or _socket_of(args.config)
    if not path:
        return USAGE
    try:
        show(client.request(path, command, arguments))
    except UnreachableError as error:
        print(error, file=sys.stderr)
        return UNREACHABLE
    except RefusedError as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    except FailedError as error:
        print(f"failed: {error}", file=sys.stderr)
        return FAILED
    return DONE


def _socket_of(config: str | None) -> str:
    """Return the control socket that a file names; empty after saying why that cannot be told.

    A daemon that runs may have been started with a file that is broken by now: the one at the
    default socket says with which. Any other one is not asked.
    """
    path, errors = control_socket(config or CONFIG_FILE, required=config is not None)
    for error in errors:
        print(error, file=sys.stderr)
    if config is None or not errors:
        return path
    if _file_of(CONTROL_SOCKET) != os.path.realpath(config):
        print(
            f"--socket names the control socket of a daemon; none at {CONTROL_SOCKET} runs with "
            "this file",
            file=sys.stderr,
        )
        return ""
    print(f"the daemon at {CONTROL_SOCKET} answers: it was started with this file", file=sys.stderr)
    return CONTROL_SOCKET


def _file_of(path: str) -> str:
    """Return the configuration file of the daemon behind this socket; empty: it does not tell."""
    try:
        shown = client.request(path, "status").get("config")
    except (UnreachableError, RefusedError, FailedError):
        return ""
    return str(shown.get("file", "")) if isinstance(shown, dict) else ""
