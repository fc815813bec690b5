"""The line that systemd shows."""

from __future__ import annotations

from election.events import DrainChanged, FitnessChanged, RecordSeen, Started
from election.machine.machine import Machine
from election.model import Found, Identity, Reason, Record
from election.timing import PROFILES, Settings
from vipd.observe.headline import Headline, headline

HELD = Record("u", holder="n2", session="s2", epoch=4, counter=9, addresses=("192.0.2.10/32",))


class Election(Machine):
    """An election that has begun, as the daemon shows it."""

    def __init__(self, name: str = "web") -> None:
        super().__init__(
            Settings(name, ("192.0.2.10/32",), PROFILES["default"], probe=False),
            Identity("n1", "s1"),
        )
        self.step(0.0, Started())

    @property
    def reason(self) -> Reason:
        """Why it is in its state."""
        return self.situation.reason

    @property
    def holder(self) -> str:
        """Who has the VIP."""
        record = self.situation.seen.record
        return record.holder if record else ""


def test_it_says_who_has_the_address_and_why_this_node_has_not() -> None:
    """Each state as `vipd status` calls it, the gravest first."""
    one, two, three = Election(), Election("mail"), Election("ftp")
    assert headline({"web": one}) == "Initialize: web"
    for each in (one, two):
        each.step(1.0, FitnessChanged(True, 100))
        each.step(1.0, RecordSeen(Found(HELD, "r1")))
    two.step(2.0, DrainChanged(True))
    assert (
        headline({"web": one, "mail": two, "ftp": three})
        == "Fault: mail (drained); Backup: web (n2 has it); Initialize: ftp"
    )


def test_of_many_elections_it_counts() -> None:
    """One line has room for no more."""
    assert (
        headline({str(number): Election(str(number)) for number in range(20)}) == "Initialize: 20"
    )


def test_it_is_sent_only_when_it_changes() -> None:
    """A steady state is silent."""
    sent: list[str] = []
    machines = {"web": Election()}
    line = Headline(machines, sent.append)
    line.update()
    line.update()
    machines["web"].step(1.0, FitnessChanged(True, 100))
    machines["web"].step(1.0, RecordSeen(Found(HELD, "r1")))
    line.update()
    assert sent == ["Initialize: web", "Backup: web (n2 has it)"]
