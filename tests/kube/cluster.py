"""Which API server the tests have: ours, or a real one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.kube.fixture import Cluster, KubeServer

ASSETS = os.environ.get("KUBEBUILDER_ASSETS", "")
"""A folder with kube-apiserver and etcd (the convention of envtest, https://book.kubebuilder.io/reference/envtest )."""


@contextlib.contextmanager
def start_cluster(directory: Path) -> Iterator[Cluster]:
    """Return an API server for the block."""
    with KubeServer(directory) as server:
        yield server
