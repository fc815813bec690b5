"""The interface check: what link events say. It looks at nothing itself."""

from __future__ import annotations

from health.model import InterfaceCheck, LinkState, Result


class InterfaceProbe:
    """Repeats the last link state that was pushed in.

    A link that is down is proof, so that `fall` is reached at once.
    """

    def __init__(self, check: InterfaceCheck) -> None:
        self._check = check
        self._state: LinkState | None = None
        self.stage = "link state"

    def push(self, state: LinkState) -> bool:
        """Take a link event; return whether it is about this interface and changes what is known.

        The kernel repeats RTM_NEWLINK for many reasons: only a change may hurry the next try, or
        two messages about one link-up would pass for `rise` results.
        """
        if state.interface != self._check.interface:
            return False
        changed = self._state is None or self._state.up is not state.up
        self._state = state
        return changed

    async def prepare(self) -> None:
        """Nothing to be done."""

    async def run(self) -> Result:
        """Return the last state; unknown before the first event."""
        name = self._check.interface
        match self._state:
            case None:
                return Result(up=None, detail=f"{name}: no link event yet")
            case LinkState(up=None, detail=detail):
                return Result(up=None, detail=f"{name}: {detail or 'cannot be told'}")
            case LinkState(up=True, detail=detail):
                return Result(up=True, detail=f"{name}: {detail or 'up'}")
            case LinkState(detail=detail):
                return Result(up=False, detail=f"{name}: {detail or 'down'}", refused=True)

    async def close(self) -> None:
        """Nothing to let go of."""
