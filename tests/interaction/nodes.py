"""The commands about nodes, time, network, store and processes."""

from __future__ import annotations

from dataclasses import replace

from election.timing import PROFILES, Settings, Timing
from tests.interaction.play import Play, Words
from tests.interaction.stage import ELECTION

EPSILON = 1e-5
"""A timer fires up to 0.1 us late: what is due at T belongs to run-until T."""

# ---------------------------------------------------------------- nodes and time


def nodes(play: Play, given: Words) -> None:
    """nodes a:200 b:150 [profile=default] [preempt=on] [preempt_delay=0] [vip=192.0.2.10/32]
    [probe=off] [candidates=on]: start them.

    `candidates=off`: no node can read the candidate records, so none knows its rank.
    """
    keys = given.keys
    play.settings = Settings(
        ELECTION,
        tuple(keys.get("vip", "192.0.2.10/32").split(",")),
        PROFILES[keys.get("profile", "default")],
        preempt=keys.get("preempt", "on") == "on",
        preempt_delay=float(keys.get("preempt_delay", "0")),
        probe=keys.get("probe", "off") == "on",
    )
    play.stage.candidates_readable = keys.get("candidates", "on") == "on"
    for word in given.words:
        label, _, priority = word.partition(":")
        play.stage.add(label, label, play.settings, int(priority)).start()


def node(play: Play, given: Words) -> None:
    """node d:150 [name=a] [vip=192.0.2.11/32]: start one more, with the others' settings.

    With another's name it is a namesake.
    """
    label, _, priority = given.words[0].partition(":")
    addresses = (
        tuple(given.keys["vip"].split(",")) if "vip" in given.keys else play.settings.addresses
    )
    settings = replace(play.settings, addresses=addresses)
    play.stage.add(label, given.keys.get("name", label), settings, int(priority)).start()


def run_until(play: Play, given: Words) -> None:
    """run-until T [quiet=renew|all]: let time pass.

    `renew` leaves out renewals that succeed, `all` everything.
    """
    narrator = play.stage.narrator
    quiet = given.keys.get("quiet", "")
    narrator.quiet, narrator.mute = quiet == "renew", quiet == "all"
    play.stage.run_until(float(given.words[0]) + EPSILON)
    narrator.mute = False


# ---------------------------------------------------------------- network and store


def partition(play: Play, given: Words) -> None:
    """partition NODE store|link: requests and watches, or frames, of this node reach nobody."""
    host = play.host(given)
    if given.words[1] == "store":
        host.store_cut = True
    else:
        host.link_cut = True


def heal(play: Play, given: Words) -> None:
    """heal NODE: end its partitions and delays."""
    host = play.host(given)
    host.store_cut = host.link_cut = False
    play.stage.steered.delays.pop(host.label, None)


def drop_reply(play: Play, given: Words) -> None:
    """drop-reply NODE: its next write is applied, and the answer to it lost."""
    play.stage.steered.drops.add(play.host(given).label)


def delay(play: Play, given: Words) -> None:
    """delay NODE SECONDS: from now on answers to this node take so much longer.

    What it asks is done in time.
    """
    play.stage.steered.delays[play.host(given).label] = float(given.words[1])


def break_watch(play: Play, given: Words) -> None:
    """break-watch NODE SECONDS.

    Its watch dies without a word, and is set up again after so long.
    """
    host = play.host(given)
    if host.watch is not None:
        host.watch.break_off(float(given.words[1]))


def store(play: Play, given: Words) -> None:
    """store down for=SECONDS: nobody reaches it, watches end."""
    seconds = given.number("for")
    play.stage.store.down_until = play.stage.now + seconds
    for watch in list(play.stage.watches()):
        watch.break_off(seconds)


def rival(play: Play, given: Words) -> None:
    """rival on|off: a host that is no part of the group answers for the address."""
    on_wire = play.stage.rivals_on_wire
    (on_wire.add if given.words[0] == "on" else on_wire.discard)(ELECTION)


# ---------------------------------------------------------------- processes


def stop(play: Play, given: Words) -> None:
    """stop NODE: SIGTERM, for good."""
    play.host(given).stop()


def start(play: Play, given: Words) -> None:
    """start NODE: start the service again."""
    play.host(given).want()


def kill(play: Play, given: Words) -> None:
    """kill NODE daemon|guard|all: SIGKILL.

    Systemd starts the service again 100 ms after the guard's end.
    """
    host = play.host(given)
    for process in {
        "daemon": (host.daemon,),
        "guard": (host.guard,),
        "all": (host.guard, host.daemon),
    }[given.words[1]]:
        if process is not None:
            process.kill()


def freeze(play: Play, given: Words) -> None:
    """freeze NODE daemon|all for=SECONDS.

    Stop the daemon, or the guard too; it thaws after so long.
    """
    host = play.host(given)
    for process in (host.daemon,) if given.words[1] == "daemon" else (host.guard, host.daemon):
        if process is not None:
            process.freeze(given.number("for"))
    host.note_stunned()


def power_off(play: Play, given: Words) -> None:
    """power-off NODE: the machine is gone, with everything in its kernel."""
    play.host(given).power_off()


def power_on(play: Play, given: Words) -> None:
    """power-on NODE: it boots; its clock starts anew, its state directory is as it was."""
    play.host(given).power_on()


def remove_address(play: Play, given: Words) -> None:
    """remove-address NODE: somebody takes the address off the interface."""
    host = play.host(given)
    host.kernel.remove(ELECTION)
    host.address_lost(ELECTION)


def reload(play: Play, given: Words) -> None:
    """reload NODE|all lease=SECONDS: SIGHUP with a file that says so.

    The other timings in proportion.
    """
    lease = given.number("lease")
    profile = next((timing for timing in PROFILES.values() if timing.lease_duration == lease), None)
    timing = profile or Timing(lease, round(lease / 5, 3), round(lease / 4, 3))
    play.settings = replace(play.settings, timing=timing)
    for host in play.stage.hosts if given.words[0] == "all" else [play.host(given)]:
        host.reload({ELECTION: replace(host.settings[ELECTION], timing=timing)})


COMMANDS = {
    command.__name__.replace("_", "-"): command
    for command in (
        nodes, node, run_until,
        partition, heal, drop_reply, delay, break_watch, store, rival,
        stop, start, kill, freeze, power_off, power_on, remove_address, reload,
    )
}  # fmt: skip
