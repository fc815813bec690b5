"""Candidate records, on every store: advice that appears, changes and goes away with its node."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from election.model import Applied, Candidacy, CandidateRecord
from election.stores.contract import CandidateChanged
from tests.contract.places import PATIENCE, TIMEOUT, Place, opened, watching

ONE = CandidateRecord(
    "node.example.org",
    "s1",
    1,
    {"ingress": Candidacy(eligible=True, priority=150)},
    "0.1.0",
    extra={"peer": "[::1]:7"},
)
TWO = CandidateRecord("b/é", "s2", 7)


def test_all_nodes_are_listed(place: Place) -> None:
    """Each as it wrote itself, whatever its name."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other]:
            assert await one.read_candidates(TIMEOUT) == []
            for record in (ONE, TWO):
                assert isinstance(await one.write_candidate(record, TIMEOUT), Applied)
            answer = await other.read_candidates(TIMEOUT)
            assert isinstance(answer, list)
            assert sorted(answer, key=repr) == sorted([ONE, TWO], key=repr)

    asyncio.run(scenario())


def test_a_node_replaces_its_record_whatever_is_there(place: Place) -> None:
    """No revision is compared: a node is the only one that writes its record."""

    async def scenario() -> None:
        async with opened(place, 2) as [one, other]:
            await one.write_candidate(replace(ONE, counter=5), TIMEOUT)
            await other.write_candidate(ONE, TIMEOUT)
            assert await one.read_candidates(TIMEOUT) == [ONE]

    asyncio.run(scenario())


def test_deleting_is_done_whether_it_was_there_or_not(place: Place) -> None:
    """Absent is as good as applied."""

    async def scenario() -> None:
        async with opened(place) as [store]:
            await store.write_candidate(ONE, TIMEOUT)
            for _ in range(2):
                assert isinstance(await store.delete_candidate(ONE.name, TIMEOUT), Applied)
                assert await store.read_candidates(TIMEOUT) == []

    asyncio.run(scenario())


def test_the_record_of_a_dead_node_goes_away(place: Place) -> None:
    """One node refreshes its record, the other has died.

    After the time to live only the living one is there.
    """

    async def scenario() -> None:
        async with opened(place, 2, candidate_ttl=1) as [one, other], watching(one) as watch:
            await other.write_candidate(TWO, TIMEOUT)
            gone = asyncio.create_task(
                watch.until(lambda event: event == CandidateChanged(TWO.name, None))
            )
            refreshes = 0
            async with asyncio.timeout(PATIENCE):
                while not gone.done():
                    refreshes += 1
                    assert isinstance(
                        await one.write_candidate(replace(ONE, counter=refreshes), TIMEOUT), Applied
                    )
                    await asyncio.wait({gone}, timeout=0.2)
            await gone
            assert await one.read_candidates(TIMEOUT) == [replace(ONE, counter=refreshes)]
            assert not [e for e in watch.seen if e == CandidateChanged(ONE.name, None)]

    asyncio.run(scenario())
