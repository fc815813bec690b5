"""A place from which nothing can leak: own process ids, mounts and networks, with or without root.

The demo starts itself again through `unshare`. Everything it makes (processes, namespaces, links,
files on a tmpfs over /run) lives inside, and the kernel removes it when the first process in there
ends: after the table, on Ctrl-C, on SIGTERM, and also when the outer process is killed, since the
inner one then reads the end of its standard input.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NoReturn

from vipd.demo.lab import LabError, environment, program, run

OWN_WORLD = ["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
USER_WORLD = ["--user", "--map-root-user"]
INTERRUPTED = 128 + signal.SIGINT
# What keeps ordinary users from namespaces of their own, by distribution: the file, the value that
# does, and the cure.
OBSTACLES = (
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=1000"),
)


def unshare() -> list[str]:
    """Return the command that makes the world of one's own. LabError with what is missing."""
    for name in ("unshare", "ip", "bridge"):
        try:
            program(name)
        except LabError as error:
            raise LabError(f"{error}: apt-get install iproute2 util-linux") from None
    root = os.geteuid() == 0
    argv = [program("unshare"), *([] if root else USER_WORLD), *OWN_WORLD]
    tried = subprocess.run([*argv, "true"], capture_output=True, text=True, check=False, timeout=10)
    if tried.returncode == 0:
        return argv
    raise LabError(f"no namespaces for this user ({tried.stderr.strip()}): {_cure(root)}")


def _cure(root: bool) -> str:
    if root:
        return (
            "this root lacks CAP_SYS_ADMIN; in a container start it with --privileged, or run "
            "the demo on the host"
        )
    cures = [
        cure
        for path, value, cure in OBSTACLES
        if Path(path).exists() and Path(path).read_text().strip() == value
    ]
    return " or ".join(["run it as root (sudo vipd demo)", *cures])


def enter(nodes: int, backend: str | None, until: str, *, as_json: bool) -> int:
    """Run the demo in its own world and return its exit code; whatever ends this ends the world.

    `until`: the key of the last scenario to play; empty: all of them.
    """
    try:
        words = [str(nodes), backend or "auto", "json" if as_json else "table", until]
        argv = [*unshare(), sys.executable, "-m", "vipd.demo.sandbox", *words]
    except LabError as error:
        print(f"vipd demo: {error}", file=sys.stderr)
        return 1
    before = signal.signal(signal.SIGTERM, _end)
    inner = subprocess.Popen(argv, stdin=subprocess.PIPE, env=environment(), process_group=0)
    try:
        return inner.wait()
    except KeyboardInterrupt:
        print("\nvipd demo: interrupted; all that it made is removed", file=sys.stderr)
        return INTERRUPTED
    finally:
        if inner.stdin:
            inner.stdin.close()
        inner.wait()
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _follow_outer_process() -> None:
    """End the world when the outer process is gone.

    Then nobody holds the other end of the standard input.
    """
    while os.read(0, 1):
        pass
    os._exit(INTERRUPTED)


def main() -> int:
    """Be the first process in here: start the play, reap what is orphaned, end with the play."""
    nodes, backend, form, until = sys.argv[1:5]
    run(["mount", "-t", "tmpfs", "none", "/run"])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    play = os.fork()
    if play == 0:
        from vipd.demo.play import run_demo  # noqa: PLC0415  the first process needs none of it

        return run_demo(int(nodes), backend, until, as_json=form == "json")
    threading.Thread(target=_follow_outer_process, daemon=True).start()
    while True:
        ended, status = os.wait()
        if ended == play:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
