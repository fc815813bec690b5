"""Who comes next: the order of the candidates. Higher priority first, ties by node name (RFC 9568 uses the address)."""

from __future__ import annotations

from election.model import Candidate, Record


def order(candidate: Candidate) -> tuple[int, str]:
    """Sort key: the best candidate comes first."""
    return (-candidate.priority, candidate.name)


class Field:
    """The candidates of one election as last reported; None until a first report. `me` is this node's name."""

    def __init__(self, me: str) -> None:
        self._me = me
        self._known: tuple[Candidate, ...] | None = None
        self._fit: list[Candidate] = []
        self._struck: dict[str, tuple[str, int]] = {}

    def see(self, candidates: tuple[Candidate, ...]) -> None:
        """Take in a new report of all candidates."""
        self._known = candidates
        self._fit = sorted((c for c in candidates if c.live and c.eligible and c.name != self._me), key=order)

    def rank(self, record: Record | None, priority: int) -> int | None:
        """Return how many live, eligible nodes come before this one, the expired or releasing holder left out.

        None: nothing is known of the candidates.
        """
        if self._known is None:
            return None
        holder = record.holder if record else ""
        releaser = record.session if record and record.released else ""
        mine = (-priority, self._me)
        return sum(order(c) < mine and c.name != holder and c.session != (releaser or None) for c in self._fit)

    @property
    def is_alone(self) -> bool:
        """Whether no other node lives, fit or not, as far as is known."""
        return self._known is not None and not any(c.live and c.name != self._me for c in self._known)

    def best(self, name: str = "") -> Candidate | None:
        """Return the best node to hand over to, or the named one if it is fit; None: there is none."""
        return next((c for c in self._fit if name in {"", c.name} and not self._is_struck(c)), None)

    def asker(self, priority: int) -> Candidate | None:
        """Return the best node that asks for the VIP and has a higher priority than this."""
        return next((c for c in self._fit if c.asks and c.priority > priority and not self._is_struck(c)), None)

    def strike(self, candidate: Candidate) -> None:
        """Don't name this node again until its candidate record changes."""
        self._struck[candidate.name] = (candidate.session, candidate.counter)

    def forget_struck(self) -> None:
        """Start with a clean sheet: a new tenure."""
        self._struck.clear()

    def _is_struck(self, candidate: Candidate) -> bool:
        return self._struck.get(candidate.name) == (candidate.session, candidate.counter)
