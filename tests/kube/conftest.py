"""The API server that is tested here.

Ours, or a real one, against which the same tests prove what ours claims.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.kube.admin import Admin
from tests.kube.cluster import start_cluster
from tests.kube.fixture import ADMIN, Cluster

numbers = itertools.count()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return the API server."""
    with start_cluster(tmp_path_factory.mktemp("kube")) as server:
        yield server


@pytest.fixture
def admin(cluster: Cluster) -> Admin:
    """Return somebody who may do all."""
    return Admin(cluster, ADMIN)


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """Return an empty namespace."""
    name = f"n{next(numbers)}"
    cluster.add_namespace(name)
    return name
