"""LIST and WATCH: which version of a collection is returned, in which portions, and what is
reported of it afterwards.

https://kubernetes.io/docs/reference/using-api/api-concepts/ : #resource-versions (what
resourceVersion and resourceVersionMatch mean), #retrieving-large-results-sets-in-chunks,
#efficient-detection-of-changes, #watch-bookmarks, #streaming-lists
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

from tests.kube.resources import Resource, Target
from tests.kube.selecting import Matches, selector
from tests.kube.status import Json, bad_options, bad_request, expired, not_found, too_large_version
from tests.kube.storage import Change, Key, Storage
from tests.kube.verbs import metadata_of

MATCH = "resourceVersionMatch"
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
LONGEST_WATCH = 1800.0
"""Seconds after which a watch ends whose client named no timeoutSeconds."""


@dataclass(slots=True)
class Habits:
    """What the documentation leaves to the server.

    `stale_by`: by how many changes the cache lags that answers resourceVersion=0: always, so that
    nobody relies on it. `bookmark_interval` in seconds; the real one is about a minute. Watches up
    to number `silent_before` never say anything again, though their connections stand; those up to
    `ended_before` end in good order. A watch that asks for a version that is gone is told so in the
    stream, or with `refuse_gone` before it begins: both happen. The watch event of a write comes
    before the answer to the write with the probability `event_first`, otherwise after it; `gap` is
    the longest time between the two, in seconds. `strip_labels`: an admission webhook takes all
    labels away. `forbidden_for`: seconds, at most, for which a server that has just come back
    forbids everything to everybody but system:masters, since it does not know the roles yet; a real
    one does so for one or two.
    """

    stale_by: int = 5
    bookmark_interval: float = 60.0
    silent_before: int = 0
    ended_before: int = 0
    refuse_gone: bool = False
    event_first: float = 0.5
    gap: float = 0.002
    strip_labels: bool = False
    forbidden_for: float = 0.5
    watches: int = field(default=0)


def stale_version(storage: Storage, habits: Habits) -> int:
    """Return the version at which the cache is."""
    return max(storage.compacted, storage.version - habits.stale_by)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise bad_request(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": '
            "invalid syntax"
        )
    return int(text)


def get_cached(storage: Storage, target: Target, version: str, habits: Habits) -> Json:
    """Return an object from the cache, for a GET with a resourceVersion.

    Not older than that, which for 0 is any.
    """
    wanted = _number(version)
    if wanted > storage.version:
        raise too_large_version(wanted, storage.version)
    at = max(wanted, stale_version(storage, habits))
    found = storage.at(Key(target.resource.qualified, target.namespace, target.name), at)
    if found is None:
        raise not_found(target.resource, target.name)
    return found


def list_version(storage: Storage, query: Mapping[str, str], habits: Habits) -> int:
    """Return the version that a LIST without a continue token shows, by the table of
    #resource-versions.
    """
    version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    if match and not version:
        raise bad_options(
            MATCH, "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        )
    if match not in ("", "Exact", "NotOlderThan"):
        raise bad_options(MATCH, f'Unsupported value: "{match}"')
    if match == "Exact" and version == "0":
        raise bad_options(
            MATCH, 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        )
    if not version:
        return storage.version
    wanted = _number(version)
    if wanted > storage.version:
        raise too_large_version(wanted, storage.version)
    if match == "Exact" or (not match and query.get("limit") and wanted):
        return wanted
    return max(wanted, stale_version(storage, habits))


def listed(storage: Storage, target: Target, query: Mapping[str, str], habits: Habits) -> Json:
    """Return a collection, or its next portion."""
    resource = target.resource
    token = query.get("continue", "")
    if token and query.get("resourceVersion", "0") != "0":
        raise bad_request("specifying resource version is not allowed when using continue")
    if token and query.get(MATCH):
        raise bad_options(
            MATCH, "Forbidden: resourceVersionMatch is forbidden when continue is provided"
        )
    version, after = _read_token(token) if token else (list_version(storage, query, habits), None)
    selected = selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    there = storage.objects(resource, target.namespace, version)
    found = [
        (key, thing) for key, thing in there if selected(thing) and (after is None or key > after)
    ]
    limit = int(query.get("limit") or 0) or len(found)
    metadata: Json = {"resourceVersion": str(version)}
    if len(found) > limit:
        metadata["continue"] = _token(version, found[limit - 1][0])
        # Selected objects cannot be counted without looking at them: the number is left out then.
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(found) - limit
    items = [
        {key: value for key, value in thing.items() if key not in {"kind", "apiVersion"}}
        for _, thing in found[:limit]
    ]
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": metadata,
        "items": items,
    }


def _token(version: int, after: Key) -> str:
    plain = json.dumps([version, after.resource, after.namespace, after.name])
    return base64.urlsafe_b64encode(plain.encode()).decode()


def _read_token(token: str) -> tuple[int, Key]:
    try:
        version, resource, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        return int(version), Key(resource, namespace, name)
    except (ValueError, TypeError):
        raise bad_request("continue key is not valid") from None


class Watch:
    """One watch request. `events` yields WatchEvents and ends when the server ends it."""

    def __init__(
        self, storage: Storage, target: Target, query: Mapping[str, str], habits: Habits
    ) -> None:
        self._storage = storage
        self._target = target
        self._habits = habits
        habits.watches += 1
        self._number = habits.watches
        self._selected: Matches = selector(
            query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        self._bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self._initial = query.get("sendInitialEvents") in ("true", "1")
        if self._initial and query.get("resourceVersionMatch") != "NotOlderThan":
            raise bad_options(
                "sendInitialEvents",
                "Forbidden: sendInitialEvents requires setting resourceVersionMatch to "
                "NotOlderThan",
            )
        self._timeout = float(query.get("timeoutSeconds") or LONGEST_WATCH)
        version = query.get("resourceVersion", "")
        # Without a version: from now on, after what there is. With 0: the same, but of the cache.
        self._states_first = version in ("", "0") or self._initial
        self._at = (
            stale_version(storage, habits)
            if version == "0"
            else _number(version)
            if version
            else storage.version
        )
        if habits.refuse_gone and self._is_gone():
            raise expired(f"too old resource version: {self._at} ({storage.compacted})")

    def _is_gone(self) -> bool:
        return self._at < self._storage.compacted

    async def events(self) -> AsyncIterator[Json]:
        """Yield what happens to the collection."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout
        if self._states_first:
            for event in self._states():
                yield event
        bookmark_at = loop.time() + self._habits.bookmark_interval
        while not (self._number <= self._habits.ended_before or loop.time() >= end):
            if self._number <= self._habits.silent_before:
                await loop.create_future()
            for event in self._news():
                yield event
                if event["type"] == "ERROR":
                    return
            if self._bookmarks and loop.time() >= bookmark_at:
                bookmark_at = loop.time() + self._habits.bookmark_interval
                yield self._bookmark({})
            if self._at >= self._storage.published:
                await self._storage.news(
                    max(0.0, min(end, bookmark_at if self._bookmarks else end) - loop.time())
                )

    def _news(self) -> Iterator[Json]:
        if self._is_gone():
            yield {
                "type": "ERROR",
                "object": expired(
                    f"too old resource version: {self._at} ({self._storage.compacted})"
                ).status(),
            }
            return
        published = self._storage.published
        changes = [
            change for change in self._storage.changes if self._at < change.version <= published
        ]
        self._at = max(self._at, published)
        for change in changes:
            event = self._event(change)
            if event is not None:
                yield event

    def _states(self) -> Iterator[Json]:
        for _, thing in self._storage.objects(
            self._target.resource, self._target.namespace, self._at
        ):
            if self._selected(thing):
                yield {"type": "ADDED", "object": thing}
        if self._initial and self._bookmarks:
            yield self._bookmark({"annotations": {INITIAL_EVENTS_END: "true"}})

    def _event(self, change: Change) -> Json | None:
        """Return what a change means for this watch; None: nothing.

        An object that is not selected any more is reported as DELETED, in the state before, with
        the version of the change.
        """
        mine = (
            change.key.resource == self._target.resource.qualified
            and self._target.namespace in ("", change.key.namespace)
        )
        was = mine and change.before is not None and self._selected(change.before)
        now = mine and change.after is not None and self._selected(change.after)
        if now:
            return {"type": "MODIFIED" if was else "ADDED", "object": change.after}
        if was and change.before is not None:
            gone = {**metadata_of(change.before), "resourceVersion": str(change.version)}
            return {"type": "DELETED", "object": {**change.before, "metadata": gone}}
        return None

    def _bookmark(self, metadata: Json) -> Json:
        return {
            "type": "BOOKMARK",
            "object": _empty(self._target.resource, {**metadata, "resourceVersion": str(self._at)}),
        }


def _empty(resource: Resource, metadata: Json) -> Json:
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}


def delete_all(storage: Storage, target: Target, query: Mapping[str, str]) -> list[str]:
    """Return the names of a collection that a DELETE of it removes."""
    selected = selector(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    return [
        key.name
        for key, thing in storage.objects(target.resource, target.namespace)
        if selected(thing)
    ]
