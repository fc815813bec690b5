"""What all checks of a process share to get slow work done outside of the event loop."""

from __future__ import annotations

import asyncio

from health.kinds.search import Searches
from health.kinds.tls import Trust
from health.names import Names


class Workers:
    """Nothing is started or read before a check needs it."""

    def __init__(self, names: Names | None = None) -> None:
        self.names = names or Names()
        self.trust = Trust()
        self.searches = Searches()

    async def close(self) -> None:
        """End what was started. Idempotent."""
        await asyncio.gather(self.names.close(), self.trust.close(), self.searches.close())
