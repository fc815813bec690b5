"""A host of its own with a real systemd as PID 1, in namespaces: for the unit as it is shipped.

The process namespace, the cgroups, /run, /var/lib and the network are the host's own; programs and
libraries are those of the machine, bound to a place that an ordinary user may read. Nothing of the
machine itself is changed.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.netns.stories.node import wait_for

REPOSITORY = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
CGROUPS = Path("/sys/fs/cgroup")
INTERFACE = "v0"
VIP = "192.0.2.100"
PATIENCE = 40.0
TARGETS = ("sysinit", "basic", "shutdown", "multi-user", "network")
ENVIRONMENT = (
    "PYTHONPATH=/run/lab/source:/run/lab/packages LD_LIBRARY_PATH=/run/lab/python/lib "
    "PYTHONDONTWRITEBYTECODE=1"
)
BOOT = r"""
set -eu
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount --bind "$CGROUP" "$(dirname "$CGROUP")"
mkdir -p /run/lab/python /run/lab/packages /run/lab/source
mount --bind "$PYTHON" /run/lab/python
mount --bind "$PACKAGES" /run/lab/packages
mount --bind "$SOURCE" /run/lab/source
cp -r "$FOLDER/units" /run/lab/units
cp "$FOLDER/vipd.yaml" /run/lab/vipd.yaml
for file in passwd group; do
    cp /etc/$file /run/lab/$file
    grep -q '^vipd:' /run/lab/$file || cat "$FOLDER/$file" >>/run/lab/$file
    mount --bind /run/lab/$file /etc/$file
done
chmod -R a+rX /run/lab/units /run/lab/vipd.yaml /run/lab/passwd /run/lab/group
ip link set lo up
ip link add v0 type veth peer name v1
ip link set v0 up
ip link set v1 up
export container=test SYSTEMD_UNIT_PATH=/run/lab/units
exec /lib/systemd/systemd --system --unit=multi-user.target --log-target=null --show-status=no
"""

T = TypeVar("T")


def missing() -> str:
    """Say what this machine lacks for a systemd of its own, or nothing."""
    if not SYSTEMD.exists():
        return "needs systemd (package systemd)"
    if not (
        (CGROUPS / "systemd" / "cgroup.procs").exists() or (CGROUPS / "cgroup.controllers").exists()
    ):
        return "needs cgroups with systemd's hierarchy"
    return ""


class SystemdHost:
    """Boots on entry, and on exit kills everything in it and removes its cgroup."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._folder = folder
        self._write_units()
        self.configure(config)
        (folder / "passwd").write_text("vipd:x:990:990::/:/usr/sbin/nologin\n")
        (folder / "group").write_text("vipd:x:990:\n")
        root = CGROUPS / "systemd" if (CGROUPS / "systemd").is_dir() else CGROUPS
        self._cgroup = root / f"vipd-test-{os.getpid()}"
        self._monitor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Boot."""
        self._cgroup.mkdir()
        environment = {
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
            "PYTHON": sys.base_prefix,
            "PACKAGES": site.getsitepackages()[0],
            "SOURCE": str(REPOSITORY),
            "FOLDER": str(self._folder),
            "CGROUP": str(self._cgroup),
        }
        join = f"echo $$ >{self._cgroup}/cgroup.procs; exec "
        namespaces = (
            "unshare --pid --mount --uts --ipc --net --cgroup --fork --mount-proc "
            "--kill-child=SIGKILL"
        )
        with (self._folder / "boot.log").open("wb") as log:
            argv = ["sh", "-c", join + namespaces + ' sh -c "$0"', BOOT]
            self._outside = subprocess.Popen(
                argv, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def _boot(self) -> None:
        self._pid = self.until(self._init, "PID 1 of the host")
        self.until(
            lambda: "running" in self.run("systemctl", "is-system-running", check=False),
            "systemd to be up",
        )
        with (self._folder / "addresses").open("wb") as news:
            self._monitor = subprocess.Popen(
                [*self._inside(), "ip", "-o", "monitor", "address"], stdout=news
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill PID 1 and with it everything else, then remove the cgroup."""
        self._end()

    def _end(self) -> None:
        if self._monitor is not None:
            self._monitor.kill()
            self._monitor.wait()
        # unshare takes PID 1 along (--kill-child).
        self._outside.kill()
        self._outside.wait()
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            self.until(functools.partial(_remove, Path(folder)), f"{folder} to be removable")

    # ------------------------------------------------------------ what is on it

    def configure(self, config: dict[str, Any]) -> None:
        """Write the configuration for the next boot."""
        (self._folder / "vipd.yaml").write_text(json.dumps(config))

    def reconfigure(self, text: str) -> None:
        """Replace the configuration of the running host."""
        self.run("sh", "-c", 'printf %s "$0" >/run/lab/vipd.yaml', text)

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command on the host and return what it printed."""
        done = subprocess.run(
            [*self._inside(), *argv], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
        assert done.returncode == 0 or not check, (
            f"{' '.join(argv)}: {done.stdout}{done.stderr}\n{self.log()}"
        )
        return done.stdout

    def unit(self, key: str) -> str:
        """Return one property of vipd.service."""
        return self.run("systemctl", "show", "vipd", "--property", key, "--value").strip()

    def processes(self) -> dict[int, str]:
        """Return name by process id (as the host counts) of everything in vipd's cgroup."""
        listing = self.run("ps", "-e", "-ww", "-o", "pid=,comm=,cgroup=")
        rows = (line.split(None, 2) for line in listing.splitlines() if "vipd.service" in line)
        return {int(pid): name for pid, name, _ in rows}

    def addresses(self) -> set[str]:
        """Return the addresses bound on the host's interface."""
        (link,) = json.loads(self.run("ip", "-j", "address", "show", "dev", INTERFACE))
        return {entry["local"] for entry in link["addr_info"]}

    def removals(self) -> int:
        """Return how often the VIP went away since the boot."""
        return sum(
            line.startswith("Deleted") and VIP in line
            for line in (self._folder / "addresses").read_text().splitlines()
        )

    def status(self) -> dict[str, Any]:
        """Return `vipd status --json` of the one instance; empty if the daemon cannot be asked."""
        document = self.document()
        return dict(document["instances"][0]) if document else {}

    def document(self) -> dict[str, Any]:
        """Return `vipd status --json`; empty if the daemon cannot be asked."""
        text = self.run(
            *self._python(), "status", "--json", "--socket", "/run/vipd/vipd.sock", check=False
        )
        return dict(json.loads(text)) if text else {}

    def wait_active(self, after_epoch: int = 0) -> int:
        """Return the epoch once the instance is Active at a later epoch than that."""

        def look() -> int:
            seen = self.status()
            return (
                int(seen["epoch"])
                if seen.get("state") == "Active" and int(seen["epoch"]) > after_epoch
                else 0
            )

        return self.until(look, "Active")

    def until(self, look: Callable[[], T], what: str) -> T:
        """Return the first true result."""
        return wait_for(look, what, PATIENCE)

    def log(self) -> str:
        """Return what vipd said."""
        return self.run("cat", "/run/lab/log", check=False)

    # ------------------------------------------------------------ how it is made

    def _write_units(self) -> None:
        units = self._folder / "units"
        (units / "vipd.service.d").mkdir(parents=True)
        shutil.copy(REPOSITORY / "systemd" / "vipd.service", units)
        for name in TARGETS:
            (units / f"{name}.target").write_text(
                f"[Unit]\nDescription={name}\nDefaultDependencies=no\n"
            )
        start = " ".join(self._python())
        (units / "vipd.service.d" / "test.conf").write_text(
            "[Service]\nExecStart=\n"
            f"ExecStart={start} run -c /run/lab/vipd.yaml\n"
            f"ExecReload=\nExecReload={start} check --reload $MAINPID -c "
            "/run/lab/vipd.yaml\nExecReload=/bin/kill -HUP $MAINPID\n"
            f"Environment={ENVIRONMENT}\n"
            "StandardError=append:/run/lab/log\n"
        )

    def _python(self) -> list[str]:
        return [
            f"/run/lab/python/bin/python{sys.version_info.major}.{sys.version_info.minor}",
            "-m",
            "vipd",
        ]

    def _inside(self) -> list[str]:
        enter = [
            "nsenter",
            "--target",
            str(self._pid),
            "--mount",
            "--pid",
            "--net",
            "--ipc",
            "--uts",
        ]
        return [*enter, "env", *ENVIRONMENT.split()]

    def _init(self) -> int:
        assert self._outside.poll() is None, (self._folder / "boot.log").read_text()
        found = subprocess.run(
            ["pgrep", "-P", str(self._outside.pid), "systemd"],
            capture_output=True,
            text=True,
            check=False,
        )
        return int(found.stdout.split()[0]) if found.stdout else 0


def _remove(folder: Path) -> bool:
    """Remove a cgroup unless a process of it is still on its way out."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
