"""Reads and checks a configuration file.

All findings at once, and no exception for any content of the file.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from announce.kernel.interface import Interface, find
from vipd.config import build as config_build
from vipd.config import host as config_host
from vipd.config.findings import BadValueError, ConfigErrors, Finding, Findings
from vipd.config.resolve import Resolve, resolve
from vipd.config.rules import relate
from vipd.config.scalars import LONGEST_NODE, absolute_path, node, node_like
from vipd.config.schema import ConfigDraft, draft
from vipd.config.values import Config
from vipd.config.yaml import read_tree

STATE_DIR_VARIABLE = "VIPD_STATE_DIR"


def find_nothing(name: str) -> Interface:
    """Say that it cannot be told what has this name, where no host is to be asked."""
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), name)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the meaning of a file depends on besides its content, and what this
    host says about it.
    """

    environ: Mapping[str, str]
    host_name: str
    resolve: Resolve
    find: config_host.Find = find_nothing


def here() -> Surroundings:
    """Return the surroundings of this process."""
    return Surroundings(os.environ, socket.gethostname(), resolve, find)


@dataclass(frozen=True, slots=True)
class Examined:
    """A file's findings in its own order, and the configuration, which is None if one of them is an
    error.
    """

    config: Config | None
    findings: tuple[Finding, ...]


def examine(path: str, surroundings: Surroundings | None = None) -> Examined:
    """Return everything that can be said about a configuration file."""
    around = surroundings or here()
    findings = Findings(path)
    tree = read_tree(findings, around.environ)
    if not tree and findings.found:
        return Examined(None, findings.in_order())
    values = draft(tree, findings)
    relate(values, findings, around.resolve)
    config_host.relate(values, findings, around.find)
    host_name = _host_name(values, around.host_name, findings)
    state_dir = _state_dir(around.environ, findings)
    if findings.wrong:
        return Examined(None, findings.in_order())
    config = config_build.config(values, host_name=host_name, state_dir=state_dir, path=path)
    return Examined(config, findings.in_order())


def load(path: str, surroundings: Surroundings | None = None) -> Config:
    """Return the configuration. Raises ConfigErrors with all findings if it cannot be used."""
    examined = examine(path, surroundings)
    if examined.config is None:
        raise ConfigErrors(examined.findings)
    return examined.config


def _host_name(values: ConfigDraft, host_name: str, findings: Findings) -> str:
    """Return the name that a node has without `node:`.

    Linux allows host names that no store takes as a key.
    """
    name = node_like(host_name) or host_name
    if values.node is not None or findings.refused(("node",)):
        return ""
    try:
        return node(name)
    except BadValueError:
        allowed = f"node: a name of DNS labels, at most {LONGEST_NODE} characters"
        findings.error(("node",), f"the host name {host_name!r} cannot be a node name", allowed)
        return ""


def _state_dir(environ: Mapping[str, str], findings: Findings) -> str:
    word = environ.get(STATE_DIR_VARIABLE, "")
    if not word:
        return ""
    try:
        return absolute_path(word)
    except BadValueError as error:
        findings.error(("state_dir",), f"{STATE_DIR_VARIABLE}: {error.problem}", error.allowed)
        return ""
