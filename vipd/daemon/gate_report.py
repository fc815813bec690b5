"""What the daemon makes of the guard's reports on the kernel's gate.

Who may take part, and what operators see.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from vipd.config.promises import with_gate, without_gate
from vipd.config.values import Config, Gate
from vipd.control import status
from vipd.guard.link import GateReport, GuardLink
from vipd.observe.metrics import Metrics

log = logging.getLogger("vipd")


class GateStatus:
    """One for the daemon. `wanted`: the configuration asks for the gate."""

    def __init__(self, config: Config, link: GuardLink, metrics: Metrics) -> None:
        self.wanted = config.fence.gate is not Gate.OFF
        self._required = config.fence.gate is Gate.REQUIRE
        self._lease = config.timing.lease_duration
        self._elections = {instance.name: instance.election for instance in config.instances}
        self._link = link
        self._metrics = metrics
        self._seen = GateReport()

    def refusal(self) -> str:
        """Return why this daemon must not run: it requires a gate that this host cannot have.

        Otherwise say what is missing.
        """
        why = self._link.start_info.no_gate
        if not why or not self.wanted:
            return ""
        if self._required:
            return f"fence.gate is {Gate.REQUIRE}, and the kernel's gate cannot be had: {why}"
        log.warning("%s", without_gate(self._lease, why))
        return ""

    def unmet(self, election: str) -> str:
        """Return why this node may not take part in an election for want of its
        gate, or nothing.
        """
        why = self._link.gate.troubles.get(election, "")
        return (
            f"no kernel gate, and fence.gate is {Gate.REQUIRE}: {why}"
            if why and self._required
            else ""
        )

    def take_in(self) -> bool:
        """Look at the guard's last report.

        Return whether programs of a previous vipd have given way since the one before.
        """
        former, self._seen = self._seen, self._link.gate
        self._metrics.gate_put_back(max(0, self._seen.put_back - former.put_back))
        for name, election in self._elections.items():
            self._metrics.gate_in_force(
                name, in_force=self.wanted and election not in self._seen.troubles
            )
        return former.inherited and not self._seen.inherited

    def document(self) -> status.Fence:
        """Return what `vipd status` shows."""
        report = self._link.gate
        if not self.wanted:
            return status.Fence(
                guard=True,
                gate=False,
                covers=without_gate(self._lease, f"fence.gate is {Gate.OFF}"),
            )
        why = "; ".join(_once(report.troubles.values()))
        covers = without_gate(self._lease, why) if why else with_gate()
        return status.Fence(
            guard=True,
            gate=not why,
            covers=covers,
            put_back=report.put_back,
            before=report.before,
            on=report.on,
            left_alone=report.left_alone,
        )


def _once(sentences: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(sentences))
