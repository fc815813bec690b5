"""What `vipd check`, run by root, cannot see by itself.

Whether the service's own user may read what the configuration names.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from typing import assert_never

from health.model import HttpCheck
from vipd.config.values import Config, EtcdBackend, FileBackend, KubernetesBackend

SERVICE_USER = "vipd"
"""The user of systemd/vipd.service, made by systemd/vipd.sysusers.conf."""
REFUSED = "r"


def unreadable(path: str, config: Config, name: str = SERVICE_USER) -> list[str]:
    """Return a sentence for each file that root may read and the service's user (`name`) may not.

    `path`: the configuration.

    Nothing is found where somebody else asks, or where there is no such user (a DaemonSet, a
    trial).
    """
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return []
    named = list(
        dict.fromkeys(file for file in (path, *_files(config)) if file and os.access(file, os.R_OK))
    )
    return [
        f"the user {name}, as which the service runs, may not read {file}"
        for file in _refused_to(user, named)
    ]


def _files(config: Config) -> Iterator[str]:
    match config.backend:
        case EtcdBackend() as etcd:
            yield from (etcd.ca_file, etcd.cert_file, etcd.key_file, etcd.password_file)
        case KubernetesBackend() as kubernetes:
            yield kubernetes.kubeconfig
        case FileBackend():
            pass  # a directory of this host, whose rights the store itself checks
        case _:
            assert_never(config.backend)
    for instance in config.instances:
        for check in instance.checks:
            if isinstance(check.kind, HttpCheck):
                yield check.kind.ca_file


def _refused_to(user: pwd.struct_passwd, names: list[str]) -> list[str]:
    """Return those of the files that this user may not read.

    Tried by a child that becomes it, so that groups and ACLs count.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            os.write(
                writing, b"".join(b"." if os.access(name, os.R_OK) else b"r" for name in names)
            )
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        said = answers.read().decode()
    os.waitpid(child, 0)
    return [name for name, answer in zip(names, said, strict=False) if answer == REFUSED]
