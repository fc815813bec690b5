"""What the tests of the Kubernetes store share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from election.model import Found, Record
from election.stores.contract import ElectionChanged, WatchEvent
from election.stores.kubernetes.store import KubernetesStore
from tests.contract.kube_place import KubePlace
from tests.contract.places import opened, revision
from tests.kube.status import Json

RECORD = Record(
    uid="u",
    holder="a",
    session="s",
    epoch=3,
    counter=7,
    lease_duration=2500,
    addresses=("192.0.2.10/32",),
    acquire_time="2026-01-01T00:00:00Z",
    renew_time="2026-01-01T00:00:05.250000Z",
)
NAME = "vipd-ingress"


def metadata(lease: Json) -> Json:
    """Return the metadata of a Lease."""
    found = lease["metadata"]
    assert isinstance(found, dict)
    return found


def notes(lease: Json) -> Json:
    """Return the annotations of a Lease."""
    found = metadata(lease)["annotations"]
    assert isinstance(found, dict)
    return found


def spec(lease: Json) -> Json:
    """Return the spec of a Lease."""
    found = lease["spec"]
    assert isinstance(found, dict)
    return found


def has_counter(number: int) -> Callable[[WatchEvent], bool]:
    """Return what is true of an event that reports this counter."""

    def found(event: WatchEvent) -> bool:
        return (
            isinstance(event, ElectionChanged)
            and isinstance(event.content, Found)
            and event.content.record.counter == number
        )

    return found


@contextlib.asynccontextmanager
async def written(place: KubePlace) -> AsyncIterator[tuple[KubernetesStore, str]]:
    """Return a store, and the revision of RECORD in it."""
    async with opened(place) as [store]:
        assert isinstance(store, KubernetesStore)
        yield store, await revision(store, "ingress", RECORD)
