"""What a new configuration changes in the kernel: only that has to leave before the next daemon starts."""

from __future__ import annotations

from collections.abc import Iterable

from vipd.config.values import Config, Instance


def changed(old: Config, new: Config) -> set[str]:
    """Return the names of the elections whose addresses may not stay bound over a reload."""
    if (old.node, old.backend, old.state_dir) != (new.node, new.backend, new.state_dir):
        return set(old.elections)
    kept = {name: _places(instances) for name, instances in new.elections.items()}
    return {name for name, instances in old.elections.items() if kept.get(name) != _places(instances)}


def _places(instances: Iterable[Instance]) -> frozenset[tuple[str, str]]:
    """Return what of an election is in the kernel: pairs of interface and address."""
    return frozenset((instance.interface, str(address)) for instance in instances for address in instance.addresses)
