"""What instances of one group have to have in common, and what a group may be called."""

from __future__ import annotations

from vipd.config.findings import Findings, Path
from vipd.config.scalars import shown
from vipd.config.schema import InstanceDraft
from vipd.config.values import Instance

COMMON = ("priority", "preempt", "preempt_delay")
"""Keys that belong to the election rather than to an interface."""
DEFAULTS = Instance("", "", ())

Instances = list[tuple[Path, InstanceDraft]]


def relate(instances: Instances, findings: Findings) -> None:
    """Note what makes it impossible to elect the instances of a group as one, or to tell a group from an instance."""
    first: dict[str, tuple[Path, InstanceDraft]] = {}
    for path, instance in instances:
        if instance.group is None:
            continue
        founder = first.setdefault(instance.group, (path, instance))
        _agree(founder, (path, instance), findings)
    for group, (path, _) in first.items():
        _own_name(group, path, instances, findings)


def _agree(founder: tuple[Path, InstanceDraft], other: tuple[Path, InstanceDraft], findings: Findings) -> None:
    """Note where an instance differs from the first one of its group."""
    (first, one), (path, instance) = founder, other
    for key in COMMON:
        wanted, has = _value(one, key), _value(instance, key)
        if wanted == has or findings.refused((*first, key)) or findings.refused((*path, key)):
            continue
        line = findings.values[first].line
        problem = f"is {_written(has)} here, and {_written(wanted)} in the first instance of the group {one.group}, on line {line}"
        findings.error((*path, key), problem, "the same in all instances of a group")


def _own_name(group: str, path: Path, instances: Instances, findings: Findings) -> None:
    """Note that an instance outside of the group has its name: two elections would have one record, or one command two meanings."""
    for place, instance in instances:
        if instance.name == group and instance.group != group and not findings.refused((*place, "group")):
            line = findings.values[place].line
            findings.error((*path, "group"), f"{group} is the name of an instance that is not in this group (line {line})", "another name")


def _value(draft: InstanceDraft, key: str) -> object:
    given = getattr(draft, key)
    return getattr(DEFAULTS, key) if given is None else given


def _written(value: object) -> str:
    """Return a value as it stands in a file."""
    return shown(value) if isinstance(value, float) else str(value).lower()
