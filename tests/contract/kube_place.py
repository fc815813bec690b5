"""A namespace of a Kubernetes cluster as a place of the contract suite."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from election.stores.contract import Store
from election.stores.encoding import record_fields, record_of
from election.stores.kubernetes.lease import decode_lease, election_lease, encode_lease
from election.stores.kubernetes.store import KubernetesStore
from tests.kube.admin import Admin
from tests.kube.fixture import ADMIN, Cluster, kubeconfig
from tests.kube.status import Json

LARGEST = 200_000
"""Bytes of nonsense that Kubernetes takes in an annotation."""
numbers = itertools.count()


class KubePlace:
    """A namespace; its stores log in with a kubeconfig."""

    def __init__(self, directory: Path, cluster: Cluster) -> None:
        self.cluster = cluster
        self.namespace = f"contract-{next(numbers)}"
        self.admin = Admin(cluster, ADMIN)
        self.kubeconfig = kubeconfig(cluster, directory / "kubeconfig", {"token": ADMIN})
        cluster.add_namespace(self.namespace)

    def store(self, candidate_ttl: float = 30.0) -> Store:
        """Return another node's view of the place."""
        return KubernetesStore(
            self.namespace, str(self.kubeconfig), request_timeout=0.5, candidate_ttl=candidate_ttl
        )

    async def edit(self, election: str, change: Callable[[dict[str, object]], None]) -> None:
        """Change annotations by hand."""

        def annotate(lease: Json) -> None:
            record = decode_lease(lease)
            fields = record_fields(record) | dict(record.extra)
            change(fields)
            lease |= encode_lease(record_of(fields), election_lease(election), lease)

        self.admin.edit(self.namespace, election_lease(election), annotate)

    async def damage(self, election: str, data: bytes) -> None:
        """Put nonsense in the place of the annotations."""
        text = data.decode(errors="replace")[:LARGEST]

        def spoil(lease: Json) -> None:
            metadata = lease["metadata"]
            assert isinstance(metadata, dict)
            metadata["annotations"] = {"vipd/epoch": text} if text else {}

        self.admin.edit(self.namespace, election_lease(election), spoil)

    async def remove(self, election: str) -> None:
        """Delete the Lease."""
        self.admin.delete(self.namespace, election_lease(election))

    @contextlib.asynccontextmanager
    async def hung(self) -> AsyncIterator[None]:
        """Freeze the API server."""
        self.cluster.freeze()
        try:
            yield
        finally:
            self.cluster.thaw()

    @contextlib.asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Stop the API server."""
        self.cluster.leave()
        try:
            yield
        finally:
            self.cluster.come_back()

    def backup(self) -> None:
        """Copy everything."""
        self.cluster.backup(self.namespace)

    def restore(self) -> None:
        """Put the copy in the place of everything."""
        self.cluster.restore(self.namespace)
