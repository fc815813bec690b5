"""Every test of the contract runs once for each kind of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.kube_place import KubePlace
from tests.contract.places import EtcdPlace, FilePlace, Place
from tests.etcd_server import EtcdServer
from tests.kube.cluster import start_cluster
from tests.kube.fixture import Cluster


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """Return an etcd that all tests of this session share; each has its own prefix."""
    with EtcdServer(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def etcd_place(etcd: EtcdServer, tmp_path: Path) -> EtcdPlace:
    """Return an empty prefix."""
    return EtcdPlace(tmp_path, etcd)


@pytest.fixture
def file_place(tmp_path: Path) -> FilePlace:
    """Return a directory that is not there yet."""
    return FilePlace(tmp_path)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a Kubernetes API server that all tests of this session share.

    Each has its own namespace.
    """
    with start_cluster(tmp_path_factory.mktemp("kube")) as server:
        yield server


@pytest.fixture
def kube_place(cluster: Cluster, tmp_path: Path) -> KubePlace:
    """Return an empty namespace."""
    return KubePlace(tmp_path, cluster)


@pytest.fixture(params=["file", "etcd", "kube"])
def place(request: pytest.FixtureRequest) -> Place:
    """Return an empty store of each kind."""
    chosen: Place = request.getfixturevalue(f"{request.param}_place")
    return chosen
