"""What the server remembers.

Objects, their versions, and for a while each change. Knows nothing of HTTP.

The versions are those of one counter for all resources, as with etcd: strictly rising, and after a
backup was put back the same ones are given out again. Objects in here are never changed in place;
whoever gets one must not do so either.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.kube.resources import Resource
from tests.kube.status import Json, expired

FIRST = 1000
"""An API server has its own objects before the first of a user."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which object. The order is that of a list."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """An object was created (no `before`), changed, or removed (no `after`) at this version."""

    version: int
    key: Key
    before: Json | None
    after: Json | None


@dataclass(frozen=True, slots=True)
class Copy:
    """A backup."""

    version: int
    objects: dict[Key, Json]


class Storage:
    """All objects. Watches are woken after each change, and when they have something else to look
    at.

    `published` is the version up to which watches report changes.
    """

    def __init__(self) -> None:
        self.version = FIRST
        self.published = FIRST
        self._held = False
        self.compacted = FIRST
        self.changes: list[Change] = []
        self._objects: dict[Key, Json] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    def get(self, key: Key) -> Json | None:
        """Return an object as it is now."""
        return self._objects.get(key)

    def put(self, key: Key, make: Callable[[str], Json]) -> Json:
        """Store what `make` returns for the version that it is stored under."""
        self.version += 1
        after = make(str(self.version))
        self._changed(Change(self.version, key, self._objects.get(key), after))
        self._objects[key] = after
        return after

    def remove(self, key: Key) -> Change:
        """Remove an object, which is there."""
        self.version += 1
        change = Change(self.version, key, self._objects.pop(key), None)
        self._changed(change)
        return change

    def objects(
        self, resource: Resource, namespace: str, version: int | None = None
    ) -> list[tuple[Key, Json]]:
        """Return a collection, sorted; `namespace` may be empty for all.

        Raises a 410 for a version that is compacted.
        """
        found = self._objects if version is None else self._at(version)
        mine = [(key, item) for key, item in found.items() if key.resource == resource.qualified]
        return sorted((key, item) for key, item in mine if namespace in ("", key.namespace))

    def at(self, key: Key, version: int) -> Json | None:
        """Return an object as it was."""
        return self._at(version).get(key)

    def everything(self) -> list[tuple[Key, Json]]:
        """Return all objects of all resources."""
        return list(self._objects.items())

    def compact(self) -> None:
        """Forget what was."""
        self.published = self.compacted = self.version
        self.changes = []
        self.wake()

    def backup(self) -> Copy:
        """Return a copy of everything."""
        return Copy(self.version, dict(self._objects))

    def restore(self, copy: Copy) -> None:
        """Put a copy in the place of everything.

        The versions since then will be given out again.
        """
        self.version = self.published = self.compacted = copy.version
        self.changes = []
        self._objects = dict(copy.objects)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let no watch report what is changed inside before `publish` was
        called with its version.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def publish(self, version: int) -> None:
        """Let watches report all changes up to this version."""
        self.published = max(self.published, min(version, self.version))
        self.wake()

    async def news(self, seconds: float) -> None:
        """Wait for the next change or call of wake(), at most so long."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait({waiting}, timeout=seconds)
        finally:
            self._waiting.discard(waiting)

    def wake(self) -> None:
        """Let all who wait look again."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def _changed(self, change: Change) -> None:
        self.changes.append(change)
        if not self._held:
            self.publish(self.version)

    def _at(self, version: int) -> dict[Key, Json]:
        if version < self.compacted:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result."
            )
        objects = dict(self._objects)
        for change in reversed(self.changes):
            if change.version <= version:
                break
            if change.before is None:
                objects.pop(change.key)
            else:
                objects[change.key] = change.before
        return objects
