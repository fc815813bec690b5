"""Does and heals the faults of a soak's plan.

Each runs on a thread of its own; several may be under way.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.bench.soak_judge import Window
from tests.bench.soak_plan import STOPPING, Aim, Round, Scope, Strike
from tests.bench.soak_world import ADDRESSES, BEST, EDGE, WEB, WEB_ADDRESSES, Group, Node
from vipd.control.errors import FailedError, RefusedError, UnreachableError
from vipd.demo.lab import LabError

AFTER_STOP = 5.0
"""Seconds after the thaw or the new start in which vipd takes away what an earlier life left: a
cold start on a busy machine."""
BY_HAND = 1.0
"""Seconds in which a Backup takes away an address that somebody added."""
UNREACHED = (UnreachableError, RefusedError, FailedError, OSError, subprocess.SubprocessError)
OTHER_LEASES = ("2s", "4s")


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that happened: to whom, from when to when.

    `why` tells that it could not be done as planned.
    """

    strike: Strike
    victim: str
    begin: float
    end: float
    why: str = ""


@dataclass
class Deeds:
    """The hands of a soak."""

    group: Group
    _taken: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def play(self, plan: Round) -> list[Done]:
        """Do a round's faults and heal them; return what was done once all are healed."""
        self._taken.clear()
        done: list[Done] = []
        threads = [
            threading.Thread(target=self._strike, args=(strike, done)) for strike in plan.strikes
        ]
        time.sleep(plan.phase)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(done, key=lambda one: one.begin)

    def _strike(self, strike: Strike, done: list[Done]) -> None:
        time.sleep(strike.at)
        node = self._victim(strike)
        victim = node.name if strike.kind.scope is Scope.NODE else strike.kind.scope.value
        why, begin = "", time.monotonic()
        window = Window(node.name, begin, float("inf"))
        excused = self._excused(strike, node, begin)
        self.group.faults.append(window)
        self.group.excused += excused
        heal = _nothing
        try:
            heal = getattr(self, f"_{strike.kind.key}")(strike, node)
        except (*UNREACHED, LabError, AssertionError) as error:
            why = str(error)
        time.sleep(max(0.0, begin + strike.lasts - time.monotonic()))
        why = why or self._healed(heal)
        end = time.monotonic()
        self.group.faults.remove(window)
        self.group.faults.append(replace(window, end=end))
        for one in excused:
            self.group.excused.remove(one)
            self.group.excused.append(
                replace(one, end=end + (AFTER_STOP if strike.kind.key in STOPPING else BY_HAND))
            )
        done.append(Done(strike, victim, begin, end, why))

    def _healed(self, heal: Callable[[], object]) -> str:
        # A daemon that another fault keeps away cannot be asked now: what is left then is put right
        # before the next round.
        try:
            heal()
        except (*UNREACHED, LabError, AssertionError) as error:
            return str(error)
        return ""

    def _excused(self, strike: Strike, node: Node, begin: float) -> list[Window]:
        if strike.kind.key in STOPPING:
            return [Window(node.name, begin, float("inf"))]
        if strike.kind.key == "vip_added":
            return [Window(node.name, begin, float("inf"), self._plain(strike))]
        return []

    def _victim(self, strike: Strike) -> Node:
        """Return a node that has no fault in this round yet, if there is one, and as the aim says,
        if it can be had.
        """
        owners = {name: self.group.owner(name) for name in BEST}
        with self._lock:
            free = [
                node for node in self.group.nodes if node.name not in self._taken
            ] or self.group.nodes
            if strike.kind.scope is not Scope.NODE:
                free = self.group.nodes
            wanted = {Aim.WEB_OWNER: {owners[WEB]}, Aim.EDGE_OWNER: {owners[EDGE]}}
            fitting = wanted.get(
                strike.aim, {node.name for node in self.group.nodes} - set(owners.values())
            )
            found = next(
                (node for node in free if node.name in fitting), free[strike.pick % len(free)]
            )
            if strike.kind.scope is Scope.NODE:
                self._taken.add(found.name)
            return found

    @staticmethod
    def _instance(strike: Strike) -> str:
        return EDGE if strike.aim is Aim.EDGE_OWNER else WEB

    def _plain(self, strike: Strike) -> str:
        return ADDRESSES[self._instance(strike)][
            strike.pick % len(ADDRESSES[self._instance(strike)])
        ].partition("/")[0]

    # ------------------------------------------------------------ orders

    def _handover(self, strike: Strike, node: Node) -> Callable[[], object]:
        name = self._instance(strike)
        node.vipd.ask("handover", instance=name)

        def unpin() -> None:
            holder = next(
                one for one in self.group.nodes if one.name == (self.group.owner(name) or node.name)
            )
            holder.vipd.ask("handover", instance=name, auto=True)

        return unpin

    def _drain(self, _: Strike, node: Node) -> Callable[[], object]:
        node.vipd.ask("drain", force=True)
        return lambda: node.vipd.ask("resume")

    # ------------------------------------------------------------ processes

    def _stop(self, _: Strike, node: Node) -> Callable[[], object]:
        with node.lock:
            node.wanted = False
            node.vipd.guard.terminate()
        return node.start

    def _daemon_killed(self, _: Strike, node: Node) -> Callable[[], object]:
        os.kill(node.vipd.daemon, signal.SIGKILL)
        return _nothing

    def _daemon_frozen(self, _: Strike, node: Node) -> Callable[[], object]:
        os.kill(node.vipd.daemon, signal.SIGSTOP)
        return _nothing

    def _guard_killed(self, _: Strike, node: Node) -> Callable[[], object]:
        node.vipd.guard.kill()
        return _nothing

    def _all_killed(self, _: Strike, node: Node) -> Callable[[], object]:
        with node.lock:
            node.wanted = False
            node.vipd.kill_all()
        return node.start

    def _all_frozen(self, _: Strike, node: Node) -> Callable[[], object]:
        node.vipd.signal_all(signal.SIGSTOP)
        return lambda: node.vipd.signal_all(signal.SIGCONT)

    def _ingress(self, _: Strike, node: Node) -> Callable[[], object]:
        node.ingress(healthy=False)
        return lambda: node.ingress(healthy=True)

    # ------------------------------------------------------------ network and kernel

    def _cable(self, _: Strike, node: Node) -> Callable[[], object]:
        self.group.lab.pull_cable(node.host)
        return lambda: self.group.lab.plug_cable(node.host)

    def _cut(self, _: Strike, node: Node) -> Callable[[], object]:
        self.group.lab.cut_off(node.host)
        return lambda: self.group.lab.reconnect(node.host)

    def _split(self, _: Strike, __: Node) -> Callable[[], object]:
        hosts = [node.host for node in self.group.nodes]
        self.group.lab.split(hosts)
        return lambda: self.group.lab.join(hosts)

    def _vip_deleted(self, strike: Strike, node: Node) -> Callable[[], object]:
        self.group.lab.delete_address(
            node.host,
            ADDRESSES[self._instance(strike)][strike.pick % len(ADDRESSES[self._instance(strike)])],
        )
        return _nothing

    def _vip_added(self, strike: Strike, node: Node) -> Callable[[], object]:
        address = self._plain(strike)
        self.group.lab.add_address(node.host, f"{address}/{128 if ':' in address else 32}")
        return _nothing

    def _nft_flushed(self, _: Strike, node: Node) -> Callable[[], object]:
        self.group.lab.run(node.host, "nft", "flush", "ruleset")
        return _nothing

    # ------------------------------------------------------------ the store

    def _etcd_killed(self, strike: Strike, _: Node) -> Callable[[], object]:
        member = self.group.members[strike.pick]
        member.kill()
        return member.launch

    def _etcd_frozen(self, strike: Strike, _: Node) -> Callable[[], object]:
        self.group.members[strike.pick].freeze()
        return self.group.members[strike.pick].thaw

    def _etcd_cut(self, strike: Strike, _: Node) -> Callable[[], object]:
        host = next(
            host
            for host in self.group.lab.hosts
            if host.name == self.group.members[strike.pick].name
        )
        self.group.lab.cut_off(host)
        return lambda: self.group.lab.reconnect(host)

    def _etcd_all_frozen(self, _: Strike, __: Node) -> Callable[[], object]:
        for member in self.group.members:
            member.freeze()
        return self._thaw_etcd

    def _thaw_etcd(self) -> None:
        for member in self.group.members:
            member.thaw()

    def _record_edited(self, strike: Strike, _: Node) -> Callable[[], object]:
        name = self._instance(strike)
        value, revision = self.group.record(name)
        with contextlib.suppress(ValueError):
            self.group.put_record(
                name,
                json.dumps({**json.loads(value), "remark": f"by hand {strike.pick}"}).encode(),
                revision,
            )
        return _nothing

    def _record_deleted(self, strike: Strike, _: Node) -> Callable[[], object]:
        self.group.delete_record(self._instance(strike))
        return _nothing

    def _record_emptied(self, strike: Strike, _: Node) -> Callable[[], object]:
        name = self._instance(strike)
        self.group.put_record(name, b"", self.group.record(name)[1])
        return _nothing

    # ------------------------------------------------------------ the configuration

    def _timing_changed(self, strike: Strike, _: Node) -> Callable[[], object]:
        self._reload(timing={"lease_duration": OTHER_LEASES[strike.pick % len(OTHER_LEASES)]})
        return self._reload

    def _addresses_changed(self, strike: Strike, _: Node) -> Callable[[], object]:
        kept = [
            address
            for number, address in enumerate(WEB_ADDRESSES)
            if number < 2 or number % 4 != strike.pick
        ]
        self._reload(addresses=kept)
        return self._reload

    def _reload(
        self, addresses: list[str] | None = None, timing: dict[str, object] | None = None
    ) -> None:
        for node in self.group.nodes:
            node.configure(addresses, timing)
            with node.lock:
                if node.vipd.runs:
                    node.vipd.reload()


def _nothing() -> None:
    """Vipd puts it right by itself."""
