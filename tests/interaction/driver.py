"""The command language of the golden dialogues: one method for each command, its docstring says how it is written.

A command is `name word... key=value...`. Times are in seconds of true time, durations in seconds. NODE is a node's letter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from election.machine import Settings
from election.model import DrainChanged, Event, FitnessChanged, Found, HandoverAsked, Reason, State, UnpinAsked
from election.timing import PROFILES, Timing
from tests.interaction.stage import ELECTION, Stage
from tests.sim.host import Host
from tests.sim.judge import Violation
from tests.sim.settle import is_served
from tests.sim.speech import say_answer
from tests.sim.store import Backup

EPSILON = 1e-5
"""A timer fires up to 0.1 us late: what is due at T belongs to run-until T."""


@dataclass(frozen=True, slots=True)
class Words:
    """A command's words and its key=value pairs."""

    words: tuple[str, ...]
    keys: dict[str, str]

    def number(self, key: str) -> float:
        """Return the value of a key as seconds."""
        return float(self.keys[key])


def parse(line: str) -> tuple[str, Words]:
    """Return the command's name and what follows it."""
    name, *rest = line.split()
    pairs = dict(word.split("=", 1) for word in rest if "=" in word)
    return name, Words(tuple(word for word in rest if "=" not in word), pairs)


class Driver:
    """One dialogue."""

    def __init__(self) -> None:
        self.stage = Stage()
        self._settings = Settings(ELECTION, ("192.0.2.10/32",), PROFILES["default"])
        self._backup: Backup | None = None

    def perform(self, line: str) -> list[str]:
        """Carry out one command and return its output; a violated promise is an output too, and stands out."""
        name, given = parse(line)
        try:
            said = getattr(self, "do_" + name.replace("-", "_"))(given)
        except Violation as violation:
            said = [f"VIOLATION {violation}"]
        return self.stage.narrator.take() + list(said or [])

    def _host(self, given: Words) -> Host:
        return next(host for host in self.stage.hosts if host.label == given.words[0])

    def _holder(self) -> Host:
        return next(h for h in self.stage.hosts if h.daemon is not None and h.daemon.is_active(ELECTION))

    def _order(self, host: Host, event: Event) -> None:
        if host.daemon is not None:
            host.daemon.deliver(ELECTION, event)

    # ------------------------------------------------------------------ nodes and time

    def do_nodes(self, given: Words) -> None:
        """nodes a:200 b:150 ... [profile=default] [preempt=on] [preempt_delay=0] [vip=192.0.2.10/32] [probe=off]: add, and start."""
        keys = given.keys
        self._settings = Settings(
            ELECTION,
            tuple(keys.get("vip", "192.0.2.10/32").split(",")),
            PROFILES[keys.get("profile", "default")],
            preempt=keys.get("preempt", "on") == "on",
            preempt_delay=float(keys.get("preempt_delay", "0")),
            probe=keys.get("probe", "off") == "on",
        )
        for word in given.words:
            label, _, priority = word.partition(":")
            self.stage.add(label, label, self._settings, int(priority)).start()

    def do_node(self, given: Words) -> None:
        """node d:150 [name=a]: add one more, with the settings of the others, and start it; with another's name: a namesake."""
        label, _, priority = given.words[0].partition(":")
        self.stage.add(label, given.keys.get("name", label), self._settings, int(priority)).start()

    def do_run_until(self, given: Words) -> None:
        """run-until T [quiet=renew|all]: let time pass; `renew` leaves out renewals that succeed, `all` everything."""
        narrator = self.stage.narrator
        quiet = given.keys.get("quiet", "")
        narrator.quiet, narrator.mute = quiet == "renew", quiet == "all"
        self.stage.run_until(float(given.words[0]) + EPSILON)
        narrator.mute = False

    # ------------------------------------------------------------------ network and store

    def do_partition(self, given: Words) -> None:
        """partition NODE store|link: requests and watches, or frames, of this node reach nobody."""
        host = self._host(given)
        if given.words[1] == "store":
            host.store_cut = True
        else:
            host.link_cut = True

    def do_heal(self, given: Words) -> None:
        """heal NODE: end its partitions and delays."""
        host = self._host(given)
        host.store_cut = host.link_cut = False
        self.stage.store.delays.pop(host.label, None)

    def do_drop_reply(self, given: Words) -> None:
        """drop-reply NODE: its next write is applied, and the answer to it lost."""
        self.stage.store.drops.add(self._host(given).label)

    def do_delay(self, given: Words) -> None:
        """delay NODE SECONDS: from now on answers to this node take so much longer; what it asks is done in time."""
        self.stage.store.delays[self._host(given).label] = float(given.words[1])

    def do_break_watch(self, given: Words) -> None:
        """break-watch NODE SECONDS: its watch dies without a word, and is set up again after so long."""
        host = self._host(given)
        if host.watch is not None:
            host.watch.break_off(float(given.words[1]))

    def do_store(self, given: Words) -> None:
        """store down for=SECONDS: nobody reaches it, watches end."""
        self.stage.store.down_until = self.stage.now + given.number("for")
        for watch in list(self.stage.watches()):
            watch.break_off(given.number("for"))

    def do_rival(self, given: Words) -> None:
        """rival on|off: a host that is no part of the group answers for the address."""
        (self.stage.strangers_on_wire.add if given.words[0] == "on" else self.stage.strangers_on_wire.discard)(ELECTION)

    # ------------------------------------------------------------------ processes

    def do_stop(self, given: Words) -> None:
        """stop NODE: SIGTERM, for good."""
        self._host(given).stop()

    def do_start(self, given: Words) -> None:
        """start NODE: start the service again."""
        self._host(given).want()

    def do_kill(self, given: Words) -> None:
        """kill NODE: SIGKILL to the daemon; the guard lives."""
        self._host(given).kill_daemon()

    def do_kill_all(self, given: Words) -> None:
        """kill-all NODE: SIGKILL to daemon and guard in one moment; systemd starts both again after 100 ms."""
        host = self._host(given)
        for process in (host.guard, host.daemon):
            if process is not None:
                process.kill()

    def do_power_off(self, given: Words) -> None:
        """power-off NODE: the machine is gone, with everything in its kernel."""
        self._host(given).power_off()

    def do_freeze(self, given: Words) -> None:
        """freeze NODE daemon|all for=SECONDS: stop the daemon, or the guard too; it thaws after so long."""
        host = self._host(given)
        frozen = (host.daemon,) if given.words[1] == "daemon" else (host.guard, host.daemon)
        for process in frozen:
            if process is not None:
                process.freeze(given.number("for"))
        host.note_stunned()

    def do_remove_address(self, given: Words) -> None:
        """remove-address NODE: somebody takes the address off the interface."""
        host = self._host(given)
        host.kernel.remove(ELECTION)
        host.address_lost(ELECTION)

    def do_reload(self, given: Words) -> None:
        """reload NODE|all lease=SECONDS: SIGHUP with a file that says so; the other timings in proportion."""
        lease = given.number("lease")
        profile = next((timing for timing in PROFILES.values() if timing.lease_duration == lease), None)
        timing = profile or Timing(lease, round(lease / 5, 3), round(lease / 4, 3))
        self._settings = replace(self._settings, timing=timing)
        for host in self.stage.hosts if given.words[0] == "all" else [self._host(given)]:
            host.reload({ELECTION: replace(host.settings[ELECTION], timing=timing)})

    # ------------------------------------------------------------------ health and operators

    def do_health(self, given: Words) -> None:
        """health NODE ok|fail|weight=PRIORITY: the verdict of its checks, or an effective priority lowered by one."""
        host = self._host(given)
        priority = int(given.keys.get("weight", host.priority))
        self._judge(host, FitnessChanged("fail" not in given.words, priority))

    def do_link(self, given: Words) -> None:
        """link NODE up|down: the carrier of its interface."""
        host = self._host(given)
        host.link_cut = given.words[1] == "down"
        self._judge(host, FitnessChanged(not host.link_cut, host.priority, Reason.LINK_DOWN))

    def _judge(self, host: Host, verdict: FitnessChanged) -> None:
        host.fit[ELECTION] = verdict
        self._order(host, verdict)

    def do_handover(self, given: Words) -> None:
        """handover [to=NODE] [pin=on]: the operator asks the holder for a planned move."""
        self._order(self._holder(), HandoverAsked(given.keys.get("to", ""), pin=given.keys.get("pin", "on") == "on"))

    def do_unpin(self, given: Words) -> None:
        """unpin: `vipd handover --auto` at the holder."""
        self._order(self._holder(), UnpinAsked())

    def do_drain(self, given: Words) -> None:
        """drain NODE: out of the election; as with --force, nobody asks whether it is the last fit node."""
        self._set_drain(self._host(given), drained=True)

    def do_resume(self, given: Words) -> None:
        """resume NODE: back into the election."""
        self._set_drain(self._host(given), drained=False)

    def _set_drain(self, host: Host, *, drained: bool) -> None:
        host.drained = drained
        self._order(host, DrainChanged(drained))

    # ------------------------------------------------------------------ strangers at the record

    def do_delete_record(self, given: Words) -> None:
        """delete-record: somebody deletes it by hand."""
        self.stage.judge.tampered(ELECTION)
        self.stage.store.delete(ELECTION)

    def do_empty_holder(self, given: Words) -> None:
        """empty-holder: somebody empties the holder and changes nothing else."""
        self.stage.store.edit(ELECTION, holder="")

    def do_corrupt(self, given: Words) -> None:
        """corrupt: somebody makes the record unreadable."""
        self.stage.judge.tampered(ELECTION)
        self.stage.store.corrupt(ELECTION)

    def do_edit(self, given: Words) -> None:
        """edit FIELD=VALUE...: somebody changes fields of the record; numbers are numbers."""
        changes: dict[str, object] = {key: int(value) if value.isdigit() else value for key, value in given.keys.items()}
        self.stage.judge.tampered(ELECTION)
        self.stage.store.edit(ELECTION, **changes)

    def do_backup(self, given: Words) -> None:
        """backup: copy all that the store has."""
        self._backup = self.stage.store.backup()

    def do_restore(self, given: Words) -> None:
        """restore: put the copy back."""
        if self._backup is not None:
            self.stage.judge.tampered_all()
            self.stage.store.restore(self._backup)

    # ------------------------------------------------------------------ looking

    def do_snapshot(self, given: Words) -> list[str]:
        """snapshot: what each node would say in `vipd status`, and the record."""
        now = self.stage.now
        said = []
        for host in self.stage.hosts:
            if host.daemon is None:
                said.append(f"{host.label} is not running")
                continue
            shot = host.daemon.machines[ELECTION].snapshot(now)
            right = f", right until {shot.deadline:.3f}" if shot.state is State.ACTIVE else ""
            said.append(f"{host.label} {shot.state.name.capitalize()} ({shot.reason}) since {shot.since:.3f}{right}")
        content = self.stage.store.read(ELECTION)
        lease = f" lease={content.record.lease_duration / 1000:g}s" if isinstance(content, Found) else ""
        return [*said, f"record {say_answer(content, frozenset(self._sessions()))}{lease}"]

    def _sessions(self) -> list[str]:
        return [host.daemon.me.session for host in self.stage.hosts if host.daemon is not None]

    def do_check(self, given: Words) -> list[str]:
        """check: what the judge saw in the whole dialogue; it stops one at once whose promises are violated."""
        judge = self.stage.judge
        judge.account(ELECTION)
        longest = f"{judge.longest_overlap * 1000:.1f} ms"
        overlap = f"two at once only in a handover, for {longest}" if judge.longest_overlap else "never two at once"
        gap = f"longest gap {judge.longest_gap:.3f} s"
        served = "served" if is_served(self.stage, ELECTION) else "not served now"
        return [f"{', '.join(self._settings.addresses)}: {overlap}; {gap}; {served}; bound: {' '.join(judge.binds)}"]
