"""Opens the store that the configuration names, importing only that backend."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from election.candidates import REFRESHES_UNTIL_DEAD
from election.stores.contract import Store
from vipd.clock import wall
from vipd.config.values import Config, EtcdBackend, FileBackend, KubernetesBackend


def open_store(config: Config) -> Store:
    """Return the store, not yet connected: its first request says whether it can be reached."""
    match config.backend:
        case FileBackend(path):
            from election.stores.file.store import FileStore  # noqa: PLC0415 -- each node pays for its own backend only

            return FileStore(Path(path), candidate_ttl(config))
        case EtcdBackend() as etcd:
            return _etcd(etcd, config)
        case KubernetesBackend(namespace, kubeconfig, context):
            from election.stores.kubernetes.store import KubernetesStore  # noqa: PLC0415 -- likewise

            # There candidate records stay for a day and not for three refreshes: `kubectl get
            # leases` shows who has died.
            return KubernetesStore(
                namespace,
                kubeconfig,
                context,
                request_timeout=config.timing.request_timeout,
                wall=wall,
            )
        case never:
            assert_never(never)


def _etcd(backend: EtcdBackend, config: Config) -> Store:
    from election.stores.etcd.access import EtcdAccess  # noqa: PLC0415 -- likewise
    from election.stores.etcd.store import EtcdStore  # noqa: PLC0415 -- likewise: grpc costs 14 MB

    access = EtcdAccess(
        backend.ca_file,
        backend.cert_file,
        backend.key_file,
        backend.username,
        backend.password_file,
    )
    return EtcdStore(
        backend.endpoints,
        backend.prefix,
        config.timing.request_timeout,
        candidate_ttl(config),
        access,
    )


def candidate_ttl(config: Config) -> float:
    """Return the seconds after which a candidate record without a refresh may go away.

    Its node counts as dead then.
    """
    return REFRESHES_UNTIL_DEAD * config.timing.candidate_refresh


def kind(config: Config) -> str:
    """Return the store's name in the configuration."""
    match config.backend:
        case FileBackend():
            return "file"
        case EtcdBackend():
            return "etcd"
        case KubernetesBackend():
            return "kubernetes"
        case never:
            assert_never(never)
