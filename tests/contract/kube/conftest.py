"""An API server that fails on command, and a namespace in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.kube_place import KubePlace
from tests.kube.fixture import KubeServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """Return an API server that fails on command."""
    with KubeServer(tmp_path_factory.mktemp("kube")) as server:
        yield server


@pytest.fixture
def place(server: KubeServer, tmp_path: Path) -> Iterator[KubePlace]:
    """Return an empty namespace; no fault and no other habit is left."""
    server.requests()
    yield KubePlace(tmp_path, server)
    server.reset()
