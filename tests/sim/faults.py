"""What goes wrong at random.

Stops and kills between two steps of a process, and the plan of everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.process import Process
    from tests.sim.world import World


class Faults:
    """Strikes processes at their hazard points."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.longest_lease = 3.0

    def strike(self, process: Process) -> bool:
        """Perhaps stop or kill the process that asks; whether it happened."""
        climate = self._world.weather.climate
        if climate.stops and self._world.rng.random() < climate.stops:
            self._stop(process)
            return True
        if climate.kills and self._world.rng.random() < climate.kills:
            process.kill()
            return True
        return False

    def _stop(self, process: Process) -> None:
        length = self._world.weather.stop_length(self.longest_lease)
        process.freeze(length)
        host = process.host
        if self._world.rng.random() < 0.3:
            for other in (host.guard, host.daemon):
                if other is not None and other is not process:
                    other.freeze(length * self._world.rng.choice((1.0, 1.0, 0.5, 1.5)))
        host.note_stunned()
