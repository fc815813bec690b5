"""The status document there and back, and what an operator reads."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace

import pytest

from vipd.cli import status_view
from vipd.cli.status_view import folded, plain, render
from vipd.clock import duration
from vipd.control import status
from vipd.control.errors import SchemaError
from vipd.control.status import (
    Address,
    Candidate,
    Check,
    Fence,
    Holder,
    Instance,
    Status,
    Store,
    from_json,
    to_json,
)

DOCUMENT = Status(
    node="n1",
    session="5e55",
    version="0.1.0",
    drained=False,
    uptime=4000.0,
    store=Store("etcd", reachable=True, last_success_age=0.2),
    fence=Fence(guard=True, gate=False, covers="address lifetimes; leases of 8 s and longer"),
    instances=(
        Instance(
            name="ingress",
            interface="eth0",
            addresses=(
                Address("192.0.2.10/32", bound=True),
                Address("2001:db8::10/128", bound=True),
            ),
            state="Active",
            since=200.5,
            reason="lease_expired",
            detail="the lease of n2 expired",
            epoch=7,
            priority=150,
            effective_priority=90,
            preempt=True,
            pin="n1",
            holder=Holder("n1", "5e55", "2026-11-21T10:00:00Z", 90),
            lease_remaining=2.44444,
            checks=(
                Check("link", "interface", ok=True, since=4000.0, detail="eth0: up"),
                Check("ingress", "http", ok=False, since=3.0, detail="503", seconds=0.01),
                Check("new", "tcp", ok=None, since=1.0, detail="no result yet"),
            ),
            candidates=(
                Candidate("n1", live=True, eligible=True, priority=90, asks=False, state="Active"),
                Candidate("n2", live=True, eligible=True, priority=100, asks=True, state="Backup"),
                Candidate(
                    "node-3", live=False, eligible=True, priority=80, asks=False, state="Backup"
                ),
            ),
            notes=("n2 has other addresses: 192.0.2.11/32",),
        ),
        Instance(
            "web",
            "eth1",
            (Address("192.0.2.20/32", bound=True),),
            "Backup",
            0.0,
            "startup",
            "",
            0,
            100,
            100,
            preempt=False,
        ),
    ),
)


def test_a_document_survives_the_wire() -> None:
    """Through JSON and back nothing changes but digits behind the milliseconds."""
    (first, second) = DOCUMENT.instances
    expected = replace(DOCUMENT, instances=(replace(first, lease_remaining=2.444), second))
    assert from_json(json.loads(json.dumps(to_json(DOCUMENT)))) == expected


def test_every_field_is_documented() -> None:
    """The schema is a promise; the module says what each field means."""
    kinds = (Status, Store, Fence, Instance, Address, Holder, Check, Candidate)
    names = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    assert names - set(re.findall(r"`(\w+)`", status.__doc__ or "")) == set()


def test_a_newer_daemon_may_say_more() -> None:
    """Within a schema version fields are only added."""
    plain_document = to_json(DOCUMENT)
    assert from_json({**plain_document, "news": 1}) == from_json(plain_document)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"node": 1},
        {"instances": 1},
        {"instances": [1]},
        {"store": None},
        {"drained": 0},
        {"instances": [{"name": "x"}]},
    ],
)
def test_another_schema_is_a_sentence(change: dict[str, object]) -> None:
    """Never a traceback, and never a guess."""
    with pytest.raises(SchemaError):
        from_json({**to_json(DOCUMENT), **change})
    with pytest.raises(SchemaError):
        from_json([])


VIEW = """\
node   n1  vipd 0.1.0, up 1h 6m, session 5e55
store  etcd reachable, last answer 0.2s ago
fence  guard, no gate: address lifetimes; leases of 8 s and longer

ingress  Active for 3m 20s (lease_expired)
  the lease of n2 expired
  address   192.0.2.10/32 bound, 2001:db8::10/128 bound on eth0
  holder    n1 (this node) since 2026-11-21T10:00:00Z, epoch 7, lease ends in 2.4s unless renewed
  priority  90 (configured 150, the rest comes from checks), preempts, pinned to n1 until `vipd handover ingress --auto`
  checks    link     interface  ok         1h 6m  eth0: up
            ingress  http       FAILS      3.0s   503
            new      tcp        undecided  1.0s   no result yet
  group     n1      Active  90   this node
            n2      Backup  100  asks for the address
            node-3  Backup  80   not seen lately
  ! n2 has other addresses: 192.0.2.11/32

web  Backup for 0.0s (startup)
  address   192.0.2.20/32 bound on eth1
  holder    nobody, epoch 0
  priority  100, does not preempt"""


def test_the_view_tells_the_whole_group() -> None:
    """Without colours it is what a pipe gets."""
    assert render(DOCUMENT) == VIEW


def test_the_view_names_the_group_of_an_instance() -> None:
    """What is elected with others says so in its first line."""
    grouped = replace(
        DOCUMENT, instances=tuple(replace(one, group="edge") for one in DOCUMENT.instances)
    )
    heads = [line for line in render(grouped).splitlines() if " of the group " in line]
    assert heads == [
        "ingress of the group edge  Active for 3m 20s (lease_expired)",
        "web of the group edge  Backup for 0.0s (startup)",
    ]


def test_colours_change_no_word() -> None:
    """They only mark what matters: here the address that a Backup has bound."""
    coloured = render(DOCUMENT, colour=True)
    assert "\n".join(map(plain, coloured.splitlines())) == VIEW
    assert "192.0.2.20/32 \x1b[31mbound\x1b[0m" in coloured


def test_what_is_wrong_stands_in_the_first_lines() -> None:
    """A drained node, a store that is gone, a missing guard."""
    store = Store("etcd", reachable=False, last_success_age=None, outage="connection refused")
    view = render(
        replace(
            DOCUMENT, drained=True, store=store, fence=Fence(guard=False, gate=False, covers="")
        )
    )
    assert "DRAINED" in view.splitlines()[0]
    assert view.splitlines()[1:3] == [
        "store  etcd NOT REACHABLE, never answered: connection refused",
        "fence  no guard",
    ]


def test_a_gate_that_others_meddle_with_is_named() -> None:
    """Taken away, or with somebody's filter before it.

    Below the fence, since it is about the whole node.
    """
    fence = Fence(
        guard=True,
        gate=True,
        covers="any lease",
        put_back=2,
        before=("eth0: another filter decides first",),
    )
    assert render(replace(DOCUMENT, fence=fence)).splitlines()[2:5] == [
        "fence  guard and gate: any lease",
        "  ! eth0: another filter decides first",
        "  ! somebody took the gate away 2 times; it was put back",
    ]


def test_an_outage_is_named_with_what_is_done_about_it() -> None:
    """Its kind, how long it lasts, the store's own words, and on a line of its own what this node
    does.
    """
    store = Store(
        "etcd", False, 12.0, "etcd at x has no quorum", "no_quorum", 13.0, "keeping it for 2.7s"
    )
    assert render(replace(DOCUMENT, store=store)).splitlines()[1:3] == [
        "store  etcd WITHOUT QUORUM for 13s, last answer 12s ago: etcd at x has no quorum",
        "       keeping it for 2.7s",
    ]


def test_a_lost_watch_stands_below_the_store() -> None:
    """With the reason of now: the store may serve all the same."""
    store = Store(
        "kubernetes",
        True,
        0.2,
        watch="the API forbids it (403): no lists",
        watch_kind="refusing",
        watch_since=83.0,
    )
    assert render(replace(DOCUMENT, store=store)).splitlines()[1:3] == [
        "store  kubernetes reachable, last answer 0.2s ago",
        "  ! the watch is lost for 1m 23s: the API forbids it (403): no lists",
    ]


def test_names_from_elsewhere_cannot_drive_the_terminal() -> None:
    """A node's name comes from a store that others write to."""
    evil = replace(
        DOCUMENT.instances[0],
        notes=("\x1b]0;title\x07",),
        detail="a\nb",
        holder=Holder("\x1b[2J", "", "", 1),
    )
    view = render(replace(DOCUMENT, instances=(evil,)))
    assert "\x1b" not in view
    assert r"a\nb" in view


@pytest.mark.parametrize("width", [2, 10, 40, 79, 80])
def test_lines_fit_into_the_terminal(width: int) -> None:
    """Folded: no word is lost, and no colour leaks into the next line."""
    view = render(DOCUMENT, colour=True, width=width)
    for line in view.splitlines():
        assert len(plain(line)) <= width
        assert line.count("\x1b[0m") * 2 == line.count("\x1b[")
    assert "".join(plain(view).split()) == "".join(VIEW.split())


def test_a_long_line_goes_on_below_its_text() -> None:
    """Broken between words, indented as far as the label before it is wide.

    A word that is too long is broken.
    """
    line = "  holder    n1 (this node), epoch 1"
    assert folded(line, 30) == ["  holder    n1 (this node),", "            epoch 1"]
    assert folded("  ! \x1b[1mabc def\x1b[0m", 8) == [
        "  ! \x1b[1mabc\x1b[0m",
        "    \x1b[1mdef\x1b[0m",
    ]
    assert (folded("12345", 5), folded("123456", 5)) == (["12345"], ["12345", "  6"])


def test_many_instances_are_a_table() -> None:
    """Twenty of them fit on a screen of 80 columns.

    What is wrong with one of them is said below.
    """
    (first, second) = DOCUMENT.instances
    many = replace(
        DOCUMENT,
        instances=(
            first,
            *(replace(second, name=f"web-{number}", addresses=()) for number in range(18)),
            second,
        ),
    )
    lines = render(many, width=80).splitlines()
    assert len(lines) <= 30
    assert [line.split() for line in lines[4:6]] == [
        ["INSTANCE", "STATE", "FOR", "HOLDER", "PRIORITY", "ADDRESS"],
        ["ingress", "Active", "3m", "20s", "n1", "90", "192.0.2.10", "+1"],
    ]
    assert "  ! ingress: n2 has other addresses: 192.0.2.11/32" in lines
    assert "  ! web: 192.0.2.20/32 is bound though this node is Backup" in lines
    assert VIEW.splitlines()[5] in render(many, whole=True)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"),
        (0.25, "0.2s"),
        (9.94, "9.9s"),
        (10, "10s"),
        (59.9, "59s"),
        (60, "1m 0s"),
        (3600, "1h 0m"),
        (90061, "1d 1h"),
    ],
)
def test_time_spans_are_as_long_as_they_matter(seconds: float, text: str) -> None:
    """Two units at most."""
    assert duration(seconds) == text


def test_every_state_has_its_colour() -> None:
    """RFC 9568's words and Fault."""
    assert set(status_view.STATE_COLOURS) == {"Initialize", "Backup", "Active", "Fault"}
