"""Everything a daemon will need, imported ahead of need by the process that it is forked from.

A restart then costs a fork and no import: with leases of one second the difference decides whether
the VIP moves. What only some configurations use is imported for those. Nothing here may start a
thread: a fork copies only one.
"""

from __future__ import annotations

import importlib

from health.kinds.registry import preload as preload_checks
from vipd.config.values import Config, EtcdBackend, FileBackend, KubernetesBackend

COMMON = ("asyncio", "logging", "prometheus_client", "vipd.daemon.daemon")
BACKENDS = {
    FileBackend: ("election.stores.file.store",),
    EtcdBackend: ("election.stores.etcd.store",),
    KubernetesBackend: ("election.stores.kubernetes.store",),
}
KUBECONFIG = ("yaml",)
"""What a kubeconfig is read with; a pod needs none."""


def common() -> None:
    """Import what every daemon needs; done while the configuration is still being read."""
    for name in COMMON:
        importlib.import_module(name)


def preload(config: Config) -> None:
    """Import what this configuration's backend and checks need besides."""
    backend = config.backend
    further = KUBECONFIG if isinstance(backend, KubernetesBackend) and backend.kubeconfig else ()
    for name in (*BACKENDS[type(backend)], *further):
        importlib.import_module(name)
    preload_checks([check for instance in config.instances for check in instance.checks])
