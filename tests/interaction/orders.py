"""The commands about health, operators and foreign writers, and those that look."""

from __future__ import annotations

from election.events import AddressClaimed, DrainChanged, FitnessChanged, HandoverAsked, UnpinAsked
from election.model import Found, Reason, Record, State
from tests.interaction.play import Play, Words
from tests.interaction.stage import ELECTION
from tests.sim.host import Host
from tests.sim.settle import is_served
from tests.sim.speech import say_answer

# ---------------------------------------------------------------- health and operators


def health(play: Play, given: Words) -> None:
    """health NODE ok|fail|weight=PRIORITY.

    The verdict of its checks, or an effective priority lowered by one.
    """
    host = play.host(given)
    priority = int(given.keys.get("weight", host.priority))
    _judge(play, host, FitnessChanged("fail" not in given.words, priority))


def link(play: Play, given: Words) -> None:
    """link NODE up|down: the carrier of its interface."""
    host = play.host(given)
    host.link_cut = given.words[1] == "down"
    _judge(play, host, FitnessChanged(not host.link_cut, host.priority, Reason.LINK_DOWN))


def _judge(play: Play, host: Host, verdict: FitnessChanged) -> None:
    host.fit[ELECTION] = verdict
    play.tell(host, verdict)


def claim(play: Play, given: Words) -> None:
    """claim NODE [by=ELECTION].

    Another election of the store, which was there first, holds the address (or none any more).
    """
    play.tell(play.host(given), AddressClaimed(given.keys.get("by", "")))


def handover(play: Play, given: Words) -> None:
    """handover [to=NODE] [pin=on]: the operator asks the holder for a planned move."""
    play.tell(
        play.stage.holder(),
        HandoverAsked(given.keys.get("to", ""), pin=given.keys.get("pin", "on") == "on"),
    )


def unpin(play: Play, given: Words) -> None:
    """unpin: `vipd handover --auto` at the holder."""
    del given
    play.tell(play.stage.holder(), UnpinAsked())


def drain(play: Play, given: Words) -> None:
    """drain NODE: out of the election.

    As with --force, nobody asks whether it is the last fit node.
    """
    _set_drain(play, play.host(given), drained=True)


def resume(play: Play, given: Words) -> None:
    """resume NODE: back into the election."""
    _set_drain(play, play.host(given), drained=False)


def _set_drain(play: Play, host: Host, *, drained: bool) -> None:
    host.drained = drained
    play.tell(host, DrainChanged(drained))


# ---------------------------------------------------------------- foreign writers at the record


def annotate(play: Play, given: Words) -> None:
    """annotate TEXT: somebody adds an annotation, and changes nothing that is vipd's."""
    play.stage.store.edit(ELECTION, extra={"note": " ".join(given.words)})


def empty_holder(play: Play, given: Words) -> None:
    """empty-holder: somebody empties the holder and changes nothing else."""
    del given
    play.stage.store.edit(ELECTION, holder="")


def corrupt(play: Play, given: Words) -> None:
    """corrupt: somebody makes the record unreadable."""
    del given
    play.stage.judge.tampered(ELECTION)
    play.stage.store.corrupt(ELECTION)


def delete_record(play: Play, given: Words) -> None:
    """delete-record: somebody deletes it by hand."""
    del given
    play.stage.judge.tampered(ELECTION)
    play.stage.store.delete(ELECTION)


def edit(play: Play, given: Words) -> None:
    """edit FIELD=VALUE....

    Somebody changes fields of the record, or adds some that are not known; numbers are numbers.
    """
    values: dict[str, object] = {
        key: int(value) if value.isdigit() else value for key, value in given.keys.items()
    }
    known = {name for name in values if name in Record.__dataclass_fields__}
    changes: dict[str, object] = {name: values[name] for name in known}
    if unknown := {name: value for name, value in values.items() if name not in known}:
        changes["extra"] = unknown
    play.stage.judge.tampered(ELECTION)
    play.stage.store.edit(ELECTION, **changes)


def backup(play: Play, given: Words) -> None:
    """backup: copy all that the store has."""
    del given
    play.backup = play.stage.store.backup()


def restore(play: Play, given: Words) -> None:
    """restore: put the copy back."""
    del given
    if play.backup is not None:
        play.stage.judge.tampered_all()
        play.stage.store.restore(play.backup)


# ---------------------------------------------------------------- looking


def snapshot(play: Play, given: Words) -> list[str]:
    """snapshot: what each node would say in `vipd status`, and the record."""
    del given
    said, sessions = [], set()
    for host in play.stage.hosts:
        if host.daemon is None:
            said.append(f"{host.label} is not running")
            continue
        sessions.add(host.daemon.me.session)
        shot, shift = (
            host.daemon.machines[ELECTION].snapshot(host.daemon.now),
            play.stage.now - host.daemon.now,
        )
        right = f", right until {shot.deadline + shift:.3f}" if shot.state is State.ACTIVE else ""
        said.append(
            f"{host.label} {shot.state.name.capitalize()} ({shot.reason}) since "
            f"{shot.since + shift:.3f}{right}"
        )
    content = play.stage.store.read(ELECTION)
    more = ""
    if isinstance(content, Found):
        record = content.record
        notes = "".join(f" {key}={value}" for key, value in record.extra.items())
        more = (
            f" lease={record.lease_duration / 1000:g}s"
            + (f" version={record.version}" if record.version > 1 else "")
            + notes
        )
    return [*said, f"record {say_answer(content, frozenset(sessions))}{more}"]


def check(play: Play, given: Words) -> list[str]:
    """check: what the judge saw in the whole dialogue.

    It stops one at once whose promises are violated.
    """
    del given
    judge = play.stage.bystander
    judge.account(ELECTION)
    longest = f"{judge.longest_overlap * 1000:.1f} ms"
    overlap = (
        f"two at once only in a handover, for {longest}"
        if judge.longest_overlap
        else "never two at once"
    )
    gap = f"longest gap {judge.longest_gap:.3f} s"
    served = "served" if is_served(play.stage, ELECTION) else "not served now"
    return [
        (
            f"{', '.join(play.settings.addresses)}: {overlap}; {gap}; {served}; bound: "
            f"{' '.join(judge.binds)}"
        )
    ]


COMMANDS = {
    command.__name__.replace("_", "-"): command
    for command in (
        health, link, claim, handover, unpin, drain, resume,
        annotate, empty_holder, corrupt, delete_record, edit, backup, restore,
        snapshot, check,
    )
}  # fmt: skip
