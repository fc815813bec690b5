"""Which API server the tests have: ours, or a real one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.kube.fixture import Cluster, KubeServer
from tests.kube.real import RealServer, has_programs

ASSETS = os.environ.get("KUBEBUILDER_ASSETS", "")
"""A folder with kube-apiserver and etcd (the convention of envtest,
https://book.kubebuilder.io/reference/envtest)."""


@contextlib.contextmanager
def start_cluster(directory: Path) -> Iterator[Cluster]:
    """Return an API server for the block.

    A folder that is named and lacks the programs is an error: nobody wants ours then.
    """
    if not ASSETS:
        with KubeServer(directory) as ours:
            yield ours
    elif has_programs(Path(ASSETS)):
        with RealServer(Path(ASSETS), directory) as real:
            yield real
    else:
        raise FileNotFoundError(
            f"KUBEBUILDER_ASSETS={ASSETS} does not hold kube-apiserver and etcd"
        )
