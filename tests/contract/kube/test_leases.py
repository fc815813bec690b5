"""What people see of a record in Kubernetes, and what they may do to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from election.model import Absent, Conflict, Release, Unreadable
from tests.contract.kube.common import NAME, RECORD, metadata, notes, spec, written
from tests.contract.kube_place import KubePlace
from tests.contract.places import TIMEOUT, current, opened, revision
from tests.kube.status import Json


def test_a_lease_reads_as_documented(kube_place: KubePlace) -> None:
    """Its own fields mean what Kubernetes says, labels are those that tools print, the rest are
    annotations.
    """

    async def scenario() -> None:
        async with written(kube_place):
            lease = kube_place.admin.lease(kube_place.namespace, NAME)
        assert spec(lease) == {
            "holderIdentity": "a",
            "leaseDurationSeconds": 3,
            "acquireTime": "2026-01-01T00:00:00.000000Z",
            "renewTime": "2026-01-01T00:00:05.250000Z",
            "leaseTransitions": 0,
        }
        assert metadata(lease)["labels"] == {
            "app.kubernetes.io/name": "vipd",
            "app.kubernetes.io/instance": "ingress",
            "app.kubernetes.io/component": "election",
        }
        assert notes(lease) == {
            "vipd/format": "1",
            "vipd/uid": "u",
            "vipd/session": "s",
            "vipd/epoch": "3",
            "vipd/counter": "7",
            "vipd/lease-duration-ms": "2500",
            "vipd/addresses": '["192.0.2.10/32"]',
        }

    asyncio.run(scenario())


def test_lease_transitions_count_changes_of_holder(kube_place: KubePlace) -> None:
    """Renewals and releases add nothing, a take by another node does, and so does one after a
    release.
    """

    async def scenario() -> None:
        async with opened(kube_place) as [store]:
            last: str | None = None
            counts: list[object] = []
            for holder, acquired in (
                ("", ""),
                ("a", "t"),
                ("a", "t"),
                ("b", "t"),
                ("", "t"),
                ("b", "t"),
                ("a", "t"),
            ):
                time = "2026-01-01T00:00:00Z" if acquired else ""
                record = replace(RECORD, holder=holder, acquire_time=time, counter=len(counts))
                last = await revision(store, "ingress", record, last)
                counts.append(
                    spec(kube_place.admin.lease(kube_place.namespace, NAME))["leaseTransitions"]
                )
            assert counts == [0, 0, 0, 1, 1, 2, 3]

    asyncio.run(scenario())


def test_an_emptied_holder_is_no_release(kube_place: KubePlace) -> None:
    """Somebody empties holderIdentity with kubectl.

    Nobody holds the lease, and nobody let go of it.
    """

    async def scenario() -> None:
        async with written(kube_place) as (store, _):
            kube_place.admin.edit(
                kube_place.namespace, NAME, lambda lease: spec(lease).pop("holderIdentity")
            )
            seen = (await current(store, "ingress")).record
            assert seen == replace(RECORD, holder="")
            assert not seen.released
            released = replace(RECORD, holder="", release=Release("s", 3))
            await revision(store, "ingress", released, (await current(store, "ingress")).revision)
            assert (await current(store, "ingress")).record.released

    asyncio.run(scenario())


def test_the_annotation_decides_and_not_the_seconds(kube_place: KubePlace) -> None:
    """Seconds edited by hand change nothing; the annotation edited by hand does."""

    async def scenario() -> None:
        async with written(kube_place) as (store, _):
            kube_place.admin.edit(
                kube_place.namespace,
                NAME,
                lambda lease: spec(lease).update(leaseDurationSeconds=60),
            )
            assert (await current(store, "ingress")).record == RECORD
            kube_place.admin.edit(
                kube_place.namespace,
                NAME,
                lambda lease: notes(lease).update({"vipd/lease-duration-ms": "9000"}),
            )
            assert (await current(store, "ingress")).record == replace(RECORD, lease_duration=9000)

    asyncio.run(scenario())


def test_what_is_foreign_survives_a_rewrite(kube_place: KubePlace) -> None:
    """Annotations, labels and owners that others put there, and vipd's own of a later version."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "no-such-uid"}

    def decorate(lease: Json) -> None:
        about = metadata(lease)
        notes(lease).update(
            {"example.org/note": "é", "vipd/quorum": '["a",{"b":1.5}]', "vipd/motto": "per aspera"}
        )
        about["labels"] |= {"team": "edge"}  # type: ignore[operator]
        about["ownerReferences"] = [owner]
        about["finalizers"] = ["example.org/keep"]

    async def scenario() -> None:
        async with written(kube_place) as (store, _):
            kube_place.admin.edit(kube_place.namespace, NAME, decorate)
            seen = await current(store, "ingress")
            assert seen.record == replace(
                RECORD, extra={"quorum": ["a", {"b": 1.5}], "motto": "per aspera"}
            )
            await revision(store, "ingress", replace(seen.record, counter=8), seen.revision)
            lease = kube_place.admin.lease(kube_place.namespace, NAME)
            about = metadata(lease)
            assert notes(lease)["example.org/note"] == "é"
            assert notes(lease)["vipd/quorum"] == '["a",{"b":1.5}]'
            assert notes(lease)["vipd/motto"] == "per aspera"
            assert about["labels"]["team"] == "edge"  # type: ignore[index]
            assert about["ownerReferences"] == [owner]
            assert about["finalizers"] == ["example.org/keep"]

    asyncio.run(scenario())


def test_annotations_filled_to_the_limit_cost_no_renewal(kube_place: KubePlace) -> None:
    """A stranger leaves no room for one more byte.

    The lease weighs more than what the stranger wrote.
    """

    def fill(lease: Json) -> None:
        used = sum(len(key) + len(str(value)) for key, value in notes(lease).items())
        notes(lease)["fill/er"] = "x" * (256 * 1024 - used - len("fill/er"))

    async def scenario() -> None:
        async with written(kube_place) as (store, _):
            kube_place.admin.edit(kube_place.namespace, NAME, fill)
            seen = await current(store, "ingress")
            await revision(store, "ingress", replace(RECORD, counter=10), seen.revision)
            assert (await current(store, "ingress")).record == replace(RECORD, counter=10)

    asyncio.run(scenario())


def test_a_lease_without_annotations_is_unreadable(kube_place: KubePlace) -> None:
    """Somebody made it with kubectl: it is there, and the sentence says what it lacks."""

    async def scenario() -> None:
        async with opened(kube_place) as [store]:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": NAME},
                "spec": {"holderIdentity": "a"},
            }
            code, _ = kube_place.admin.ask(
                "POST",
                f"/apis/coordination.k8s.io/v1/namespaces/{kube_place.namespace}/leases",
                lease,
            )
            assert code == 201
            answer = await store.read("ingress", TIMEOUT)
            assert isinstance(answer, Unreadable)
            assert "vipd/uid" in answer.why
            await revision(store, "ingress", RECORD, answer.revision)
            assert (await current(store, "ingress")).record == RECORD

    asyncio.run(scenario())


def test_a_renewal_does_not_bring_a_deleted_lease_back(kube_place: KubePlace) -> None:
    """Leases may be created by PUT.

    Without its uid a renewal would end the absence that everybody has to wait out.
    """

    async def scenario() -> None:
        async with written(kube_place) as (store, last):
            kube_place.admin.delete(kube_place.namespace, NAME)
            assert (
                await store.write("ingress", replace(RECORD, counter=8), last, TIMEOUT)
                == Conflict()
            )
            assert await store.read("ingress", TIMEOUT) == Absent()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "time",
    ["2026-01-01T05:00:00Z", "1970-01-01T00:00:00Z", "2999-01-01T00:00:00+14:00", "", "yesterday"],
)
def test_a_clock_that_is_hours_off_costs_nothing(kube_place: KubePlace, time: str) -> None:
    """Times are for people.

    Whatever they say, the record is written, read and built on as any other; what is no time is
    left out.
    """

    async def scenario() -> None:
        async with opened(kube_place, 2) as [one, other]:
            last = await revision(
                one, "ingress", replace(RECORD, acquire_time=time, renew_time=time)
            )
            seen = await current(other, "ingress")
            assert seen.revision == last
            assert replace(seen.record, acquire_time="", renew_time="") == replace(
                RECORD, acquire_time="", renew_time=""
            )
            await revision(
                other,
                "ingress",
                replace(RECORD, holder="b", acquire_time=time, renew_time=time),
                last,
            )
            assert await one.write("ingress", RECORD, last, TIMEOUT) == Conflict()

    asyncio.run(scenario())
