"""What to say, and how often to announce, while somebody else answers for an address. Pure; seconds
throughout.

Whoever can send frames to the network decides how many there are, and from how many MAC addresses:
what vipd says, sends and keeps of them is bounded for each of its addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RIVALS_KEPT = 16
LINE_PAUSE = 10.0
"""Seconds between two log lines about one address."""
SAME_PAUSE = 60.0
"""Seconds between two log lines that have no other MAC address to tell of."""
ANSWER_PAUSE = 1.0
"""Seconds between two announcements against others: both sides answering each frame would be a
storm."""
NAMED = 3
"""MAC addresses in one line."""


@dataclass(slots=True)
class Dispute:
    """One address that others answer for.

    `said_at` and `answered_at` are of the last line and of the last announcement.
    """

    address: str
    said_at: float = float("-inf")
    answered_at: float = float("-inf")
    frames: int = 0
    macs: dict[str, None] = field(default_factory=dict)
    said: dict[str, None] = field(default_factory=dict)

    def heard(self, mac: str) -> None:
        """Take in a frame of somebody with this MAC address."""
        self.frames += 1
        if len(self.macs) < RIVALS_KEPT:
            self.macs[mac] = None

    def line(self, moment: float) -> str:
        """Return the line to be logged now, which counts what came since the last one; empty: none."""
        news = any(mac not in self.said for mac in self.macs)
        if not self.frames or moment - self.said_at < (LINE_PAUSE if news else SAME_PAUSE):
            return ""
        text = self._text(moment)
        self.said_at, self.frames, self.said, self.macs = moment, 0, self.macs, {}
        return text

    def _text(self, moment: float) -> str:
        first, *others = self.macs
        if not others:
            return f"{first} answers for {self.address} as well; announcing against it"
        named = ", ".join((first, *others[: NAMED - 1]))
        many = len(self.macs) >= RIVALS_KEPT
        count = (
            f"{RIVALS_KEPT} MAC addresses or more" if many else f"{len(self.macs)} MAC addresses"
        )
        since = f" in {moment - self.said_at:.0f}s" if self.said else ""
        more = ", ..." if len(self.macs) > NAMED else ""
        return f"{count} ({named}{more}) answer for {self.address} as well, at least {self.frames} frames{since}; announcing against them"

    def answers(self, moment: float) -> bool:
        """Return whether to announce against them now, and note it."""
        if moment - self.answered_at < ANSWER_PAUSE:
            return False
        self.answered_at = moment
        return True
