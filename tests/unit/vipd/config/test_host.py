"""What a host says about the interfaces of a configuration.

Warnings with their places, never errors.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from announce.kernel.interface import LOOPBACK, Interface
from tests.unit.vipd.conftest import look_up
from vipd.config.load import Surroundings, examine

HERE = {
    "eth0": Interface(
        2, "eth0", "02:00:00:00:00:01", up=True, carrier=True, altnames=frozenset({"uplink0"})
    ),
    "uplink0": Interface(
        2, "eth0", "02:00:00:00:00:01", up=True, carrier=True, altnames=frozenset({"uplink0"})
    ),
    "lo": Interface(1, "lo", "00:00:00:00:00:00", up=True, carrier=True, kind=LOOPBACK),
    "tun0": Interface(3, "tun0", "", up=True, carrier=True, kind=65534, arp=False),
    "dummy0": Interface(4, "dummy0", "02:00:00:00:00:02", up=True, carrier=True, arp=False),
}


def find(name: str) -> Interface:
    """Return an interface of the host of these tests."""
    if name == "busy0":
        raise TimeoutError("the kernel did not answer")
    if name not in HERE:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
    return HERE[name]


def warnings(file: Path, *instances: str) -> list[str]:
    """Return the warnings about a configuration with these instances, which is valid, each from its
    line on.
    """
    items = "".join(
        f"  - {{name: i{number}, addresses: [192.0.2.{number}], {one}}}\n"
        for number, one in enumerate(instances, start=1)
    )
    file.write_text("backend: {file: {}}\ninstances:\n" + items)
    examined = examine(str(file), Surroundings({}, "node-1", look_up, find))
    assert examined.config is not None
    assert all(finding.warning for finding in examined.findings)
    return [str(finding)[len(str(file)) + 1 :] for finding in examined.findings]


@pytest.mark.parametrize("name", ["eth0", "uplink0", "busy0"])
def test_an_interface_that_announces_is_not_spoken_of(file: Path, name: str) -> None:
    """Nor one that the kernel would not tell about."""
    assert warnings(file, f"interface: {name}") == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eth99", "eth99 does not exist on this host; vipd waits until it appears"),
        ("lo", "lo is the loopback interface: nothing is announced"),
        ("tun0", "tun0 is not an Ethernet interface"),
        ("dummy0", "dummy0 does not use ARP"),
    ],
)
def test_an_interface_that_cannot_announce_is_a_warning(file: Path, name: str, words: str) -> None:
    """One sentence with its place, however many instances name it."""
    [said] = warnings(file, f"interface: {name}", "interface: eth0", f"interface: {name}")
    assert said.startswith(f"3:51: warning: instances[0].interface: {words}")


def test_an_interface_that_a_check_is_about_may_be_missing(file: Path) -> None:
    """What only a check is about need not announce; its own interface is spoken of once."""
    checks = ", ".join(
        f"{{name: c{at}, interface: {{interface: {name}}}}}"
        for at, name in enumerate(("eth98", "lo", "eth99"))
    )
    said = warnings(file, f"interface: eth99, checks: [{checks}]")
    assert [line.partition(" warning: ")[2] for line in said] == [
        "instances[0].interface: eth99 does not exist on this host; vipd waits until it appears",
        (
            "instances[0].checks[0].interface.interface: eth98 does not exist on this host; the "
            "check fails until it appears"
        ),
    ]
