"""What a new configuration changes in the kernel: only that has to leave before the next daemon starts."""

from __future__ import annotations

from vipd.config import Config, Instance


def changed(old: Config, new: Config) -> set[str]:
    """Return the names of the instances that may not stay bound over a reload."""
    everything = {instance.name for instance in old.instances}
    if (old.node, old.backend, old.state_dir) != (new.node, new.backend, new.state_dir):
        return everything
    kept = {instance.name: _place(instance) for instance in new.instances}
    return {instance.name for instance in old.instances if kept.get(instance.name) != _place(instance)}


def _place(instance: Instance) -> tuple[str, frozenset[str]]:
    """Return what of an instance is in the kernel."""
    return instance.interface, frozenset(str(address) for address in instance.addresses)
