"""From single results to a verdict, with hysteresis. Pure.

A check that is up goes down after `fall` bad results in a row, one that is down comes up after `rise` good ones. What starts otherwise:

- *Undecided.* Without a result a check is neither up nor down. One good result is enough to be up, as in keepalived and HAProxy (a node
  that just started must not wait `rise` intervals while nobody holds the VIP). `fall` bad ones are needed to be down: the single
  refused connection of an ingress that starts together with vipd must not read as a fault.
- *Remembered.* A daemon that was restarted goes on with the verdict of its former self until the first result. That one, if good, makes
  it up at once, as after any start; if bad, it is the first of `fall`, so that a crash of the daemon does not make it hastier.
- *Unknown.* With `fail` it counts as bad. With `keep` it changes nothing, neither verdict nor count; but an undecided check has nothing
  to keep: there it counts as bad, so that each check is decided after `fall` results at the latest and no node waits for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from health.model import OnUnknown


@dataclass(frozen=True, slots=True)
class RiseFall:
    """A verdict (`up`, None: undecided) and the row of equal results behind it. `fresh`: no result of this life has counted yet."""

    rise: int
    fall: int
    on_unknown: OnUnknown = OnUnknown.KEEP
    up: bool | None = None
    fresh: bool = True
    last: bool | None = None
    consecutive: int = 0

    @property
    def falling(self) -> bool:
        """Whether bad results are coming in that have not made the check down yet."""
        return self.last is False and self.up is not False

    def feed(self, seen: bool | None) -> RiseFall:
        """Return what is known after one more result (None: unknown)."""
        good = self._counts_as(seen)
        if good is None:
            return self
        consecutive = self.consecutive + 1 if good is self.last else 1
        return replace(self, up=self._verdict(good=good, consecutive=consecutive), fresh=False, last=good, consecutive=consecutive)

    def remember(self, *, up: bool) -> RiseFall:
        """Return the start of a new life that goes on with a former one's verdict."""
        return replace(self, up=up, fresh=True, last=None, consecutive=0)

    def _counts_as(self, seen: bool | None) -> bool | None:
        if seen is not None:
            return seen
        keeps = self.on_unknown is OnUnknown.KEEP and self.up is not None
        return None if keeps else False

    def _verdict(self, *, good: bool, consecutive: int) -> bool | None:
        if good:
            return True if self.up is None or self.fresh or consecutive >= self.rise else self.up
        return False if consecutive >= self.fall else self.up
