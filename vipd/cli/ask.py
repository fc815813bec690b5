"""How a command asks the running daemon: finds its socket, sends one request, shows the answer or why there is none."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from vipd.cli.exit_codes import DONE, FAILED, REFUSED, UNREACHABLE, USAGE
from vipd.config.defaults import CONFIG_FILE
from vipd.config.socket import control_socket
from vipd.control import client

Show = Callable[[dict[str, object]], None]


def ask(args: argparse.Namespace, command: str, arguments: dict[str, object], show: Show) -> int:
    """Send a command and show its result; return the exit code. `args`: socket, config (None: not given)."""
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
    path, errors = control_socket(config or CONFIG_FILE, required=config is not None)
    for error in errors:
        print(error, file=sys.stderr)
    return path
