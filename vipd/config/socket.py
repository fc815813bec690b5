"""Finds the daemon's control socket in a configuration file, and looks at nothing else in it.

An operator who has just broken the file must still be able to ask the running daemon what it does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from vipd.config.defaults import CONTROL_SOCKET
from vipd.config.findings import BadValueError, Finding, Findings
from vipd.config.scalars import socket_path
from vipd.config.yaml import read_tree

PLACE = ("control", "socket")


def control_socket(
    file: str, *, required: bool, environ: Mapping[str, str] = os.environ
) -> tuple[str, list[Finding]]:
    """Return the path of the socket and what stands in its way, if anything.

    `required`: the operator named this file, so a fault in it that hides the socket leaves the path
    empty. Otherwise the default socket is the best guess, since a client may not even have the
    right to read the daemon's file.
    """
    findings = Findings(file)
    tree = read_tree(findings, environ)
    errors = [finding for finding in findings.found if finding.path in {(), PLACE[:1], PLACE}]
    control = tree.get("control")
    value = control.get("socket") if isinstance(control, dict) else None
    path = CONTROL_SOCKET
    try:
        path = CONTROL_SOCKET if value is None else socket_path(value)
    except BadValueError as error:
        findings.error(PLACE, error.problem, error.allowed)
        errors.append(findings.found[-1])
    if errors:
        return ("", errors) if required else (CONTROL_SOCKET, [])
    return path, []
