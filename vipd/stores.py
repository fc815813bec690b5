"""Opens the store that the configuration names, importing only that backend."""

from __future__ import annotations

from pathlib import Path

from election.candidates import REFRESHES_UNTIL_DEAD
from election.store import Store
from vipd.config import Config, EtcdBackend, FileBackend


def open_store(config: Config) -> Store:
    """Return the store, not yet connected: its first request says whether it can be reached."""
    match config.backend:
        case FileBackend(path):
            from election.store_file import FileStore  # noqa: PLC0415 -- each node pays for its own backend only

            return FileStore(Path(path))
        case EtcdBackend(endpoints, prefix):
            from election.store_etcd import EtcdStore  # noqa: PLC0415 -- likewise: grpc costs 14 MB

            candidate_ttl = REFRESHES_UNTIL_DEAD * config.timing.candidate_refresh
            return EtcdStore(endpoints, prefix, config.timing.request_timeout, candidate_ttl)


def kind(config: Config) -> str:
    """Return the store's name in the configuration."""
    return "file" if isinstance(config.backend, FileBackend) else "etcd"
