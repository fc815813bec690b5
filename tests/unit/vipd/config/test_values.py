"""What may stay bound while a new configuration is taken over."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

from election.timing import Timing
from vipd.config.values import Config, FileBackend, Instance, changed


def instance(name: str, last: int, group: str = "", interface: str = "eth0") -> Instance:
    """Return an instance with one address."""
    return Instance(name, interface, (ip_interface(f"192.0.2.{last}/32"),), group=group)


def configuration(*instances: Instance) -> Config:
    """Return a configuration."""
    return Config("n1", FileBackend(), Timing(), instances)


def test_only_what_is_elsewhere_in_the_kernel_has_to_leave() -> None:
    """A priority may change under a bound address.

    Address, interface and the election's own existence may not.
    """
    one, two, three = instance("one", 1), instance("two", 2), instance("three", 3)
    new = configuration(replace(one, priority=7), replace(two, interface="eth1"))
    assert changed(configuration(one, two, three), new) == {"two", "three"}


def test_another_node_or_store_changes_everything() -> None:
    """Whatever is held is held under the old name in the old place."""
    old = configuration(instance("one", 1), instance("two", 2, "edge"))
    assert changed(old, replace(old, node="n2")) == {"one", "edge"}


def test_a_group_leaves_as_a_whole() -> None:
    """When an instance comes to it, goes from it or moves.

    A new name for one of its instances is nothing to the kernel.
    """
    one, two = instance("one", 1, "edge"), instance("two", 2, "edge")
    old = configuration(one, two)
    assert changed(old, configuration(one)) == {"edge"}
    assert changed(old, configuration(one, two, instance("three", 3, "edge"))) == {"edge"}
    assert changed(old, configuration(one, replace(two, interface="eth1"))) == {"edge"}
    assert changed(old, configuration(one, replace(two, name="second"))) == set()


def test_an_instance_that_joins_a_group_gives_up_its_own_election() -> None:
    """Unless the group has the instance's name and nothing else: then it is the same election."""
    alone = instance("one", 1)
    assert changed(configuration(alone), configuration(replace(alone, group="edge"))) == {"one"}
    assert changed(configuration(alone), configuration(replace(alone, group="one"))) == set()
