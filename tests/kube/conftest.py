"""The API server that is tested here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.kube.admin import Admin
from tests.kube.fixture import ADMIN, KubeServer

numbers = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """Return our API server."""
    with KubeServer(tmp_path_factory.mktemp("kube")) as server:
        yield server


@pytest.fixture
def admin(server: KubeServer) -> Iterator[Admin]:
    """Return somebody who may do all; no fault is left."""
    server.requests()
    yield Admin(server, ADMIN)
    server.clear()


@pytest.fixture
def namespace(server: KubeServer) -> str:
    """Return an empty namespace."""
    name = f"n{next(numbers)}"
    server.add_namespace(name)
    return name
