"""What a file may say of a group, and what is wrong with one that cannot be elected as one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vipd.config.load import Examined

Read = Callable[..., Examined]
Errors = Callable[..., list[tuple[str, str]]]

HEAD = "backend: {file: {}}\ninstances:\n"


def text(*instances: str) -> str:
    """Return a file with instances on lines of their own, from the third one on."""
    bodies = [
        f"  - {{addresses: [192.0.2.{number}], interface: eth{number}, {keys}}}\n"
        for number, keys in enumerate(instances, start=1)
    ]
    return HEAD + "".join(bodies)


def test_an_election_has_the_name_of_the_group_or_of_the_instance(read: Read) -> None:
    """In the order of the file, with the instances in theirs.

    A group may have the name of one of its own.
    """
    config = read(text("name: a, group: b", "name: x", "name: b, group: b")).config
    assert config is not None
    assert [(name, [one.name for one in found]) for name, found in config.elections.items()] == [
        ("b", ["a", "b"]),
        ("x", ["x"]),
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("priority: 150, preempt_delay: 10s", "preempt_delay: 10000ms, priority: 150"),
        ("priority: 100, preempt: yes, preempt_delay: 0s", "announce: {burst: 1}"),
        ("on_conflict: take", "on_conflict: wait"),
    ],
)
def test_instances_of_a_group_agree_in_what_is_decided_for_all(
    errors: Errors, first: str, second: str
) -> None:
    """However it is written; what is an interface's own may differ."""
    assert errors(text(f"name: a, group: g, {first}", f"name: b, group: g, {second}")) == []


@pytest.mark.parametrize(
    ("first", "second", "where", "says"),
    [
        (
            "priority: 150",
            "priority: 120",
            "priority",
            "is 120 here, and 150 in the first instance of the group g, on line 3",
        ),
        ("priority: 150", "preempt: true", "priority", "is 100 here, and 150"),
        ("preempt: true", "preempt: no", "preempt", "is false here, and true"),
        ("preempt_delay: 90s", "preempt_delay: 1m", "preempt_delay", "is 1m here, and 90s"),
    ],
)
def test_instances_of_a_group_that_disagree_are_refused(
    errors: Errors, first: str, second: str, where: str, says: str
) -> None:
    """With both values and the place of the other one; a default counts as what it is."""
    line = f"name: b, group: g, {second}"
    [(place, problem)] = errors(text(f"name: a, group: g, {first}", line))
    column = (
        text("", line).splitlines()[3].find(f"{where}: ") + len(where) + 3 if where in second else 5
    )
    assert place == f"4:{column} instances[1].{where}"
    assert says in problem
    assert "allowed: the same in all instances of a group" in problem


def test_each_instance_of_a_group_is_compared_with_the_first(errors: Errors) -> None:
    """One of three that is different is one fault, and other groups are none of its business."""
    found = errors(
        text(
            "name: a, group: g",
            "name: b, group: h, priority: 5",
            "name: c, group: g, priority: 7",
            "name: d, group: g",
        )
    )
    assert [where.partition(" ")[2] for where, _ in found] == ["instances[2].priority"]


def test_a_group_is_not_called_like_an_instance_outside_of_it(errors: Errors) -> None:
    """They would share a record.

    And one that is in another group would make a command ambiguous.
    """
    for outside in ("name: g", "name: g, group: h"):
        [(place, problem)] = errors(text("name: a, group: g", outside))
        assert place.partition(" ")[2] == "instances[0].group"
        assert (
            "g is the name of an instance that is not in this group (line 4); allowed: another name"
            in problem
        )


def test_a_value_that_was_refused_is_no_second_fault(errors: Errors) -> None:
    """A bad priority differs from no other, a bad group has no members."""
    found = errors(
        text("name: g, group: G!", "name: b, group: g, priority: 900", "name: c, group: g")
    )
    assert [where.partition(" ")[2] for where, _ in found] == [
        "instances[0].group",
        "instances[1].priority",
    ]
