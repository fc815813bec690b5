"""The command line as a process: exit codes, what is printed where, and what is not imported."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import pytest

from vipd.cli.main import main
from vipd.control.errors import Refused
from vipd.control.server import ControlServer
from vipd.control.status import Fence, Status, Store, to_json
from vipd.version import VERSION

ROOT = Path(__file__).parents[4]
GOOD = (
    "backend: {file: {path: /tmp/store}}\ninstances:\n  - {name: ingress, interface: eth0, "
    "addresses: [192.0.2.10]}\n"
)
DOCUMENT = Status("n1", "5e55", "0.1.0", False, Store("file", True, 0.1), Fence(True, True, ""))


def vipd(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program."""
    argv = [sys.executable, "-m", "vipd", *words]
    return subprocess.run(
        argv,
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def on_a_terminal(*words: str, **environ: str) -> str:
    """Run the program with a terminal as its output; return what the terminal got."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "vipd", *words]
    subprocess.run(
        argv,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", **environ},
        stdout=theirs,
        check=True,
        timeout=60,
    )
    os.close(theirs)
    data = b""
    try:
        while part := os.read(ours, 65536):
            data += part
    except OSError:
        pass  # how the end of a terminal is told
    os.close(ours)
    return data.decode()


async def handle(command: str, arguments: dict[str, object]) -> dict[str, object]:
    """Answer as a daemon does."""
    match command, arguments:
        case "status", {}:
            return to_json(DOCUMENT)
        case "handover", {"instance": "ingress", "to": to, "auto": auto}:
            return {"message": f"to={to} auto={auto}"}
        case "handover", _:
            raise Refused("there is no instance of that name")
        case "drain", {"force": False}:
            raise Refused("no other node is fit")
        case "drain", _:
            return {"message": "drained"}
        case _:
            raise ValueError("a bug")


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Return a short path for a control socket."""
    directory = Path(mkdtemp(prefix="vipd-test-", dir="/tmp"))
    yield directory / "s"
    shutil.rmtree(directory)


def asked(path: Path, *words: str) -> tuple[int, str, str]:
    """Run a client command while a daemon answers."""

    async def run() -> subprocess.CompletedProcess[str]:
        server = ControlServer(path, handle)
        await server.start()
        try:
            return await asyncio.to_thread(vipd, *words)
        finally:
            await server.close()

    done = asyncio.run(run())
    return done.returncode, done.stdout, done.stderr


# ---------------------------------------------------------------- usage


@pytest.mark.parametrize(
    "words",
    [
        *(
            [],
            ["fly"],
            ["status", "--fast"],
            ["handover"],
            ["handover", "a", "--to", "b", "--auto"],
            ["demo", "--nodes", "1"],
        ),
        *(
            ["status", "-c", "a", "--socket", "b"],
            ["run", "-c"],
            ["check", "a", "b"],
            ["demo", "--backend", "kubernetes"],
        ),
    ],
)
def test_wrong_usage_is_exit_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With a line that says how."""
    with pytest.raises(SystemExit) as raised:
        main(words)
    assert raised.value.code == 2
    assert "usage: vipd" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """And no other."""
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    commands = re.findall(r"^    (\w+)", capsys.readouterr().out, re.MULTILINE)
    assert commands == [
        "run",
        "check",
        "release",
        "status",
        "handover",
        "drain",
        "resume",
        "demo",
        "version",
    ]


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    """One number in two places."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    assert main(["version"]) == 0
    assert main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [lines[0]] * 2
    assert lines[0].startswith(f"vipd {VERSION} (Python ")


@pytest.mark.parametrize(
    "words", [["run"], ["run", "-c", "/x.yaml"], ["run", "--config", "/x.yaml"]]
)
def test_run_reaches_the_guard_without_a_parser(words: list[str]) -> None:
    """The guard lives as long as the node; what it has imported stays in memory."""
    code = (
        "import sys, types\n"
        "before = set(sys.modules)\n"
        "sys.modules['vipd.guard.guard'] = guard = types.ModuleType('vipd.guard.guard')\n"
        "guard.run = lambda path: print(path) or 7\n"
        "import vipd.guard; vipd.guard.guard = guard\n"
        "from vipd.cli.main import main\n"
        f"assert main({words!r}) == 7\n"
        "print(*sorted({'argparse', 'json', 'socket', 'yaml', 'pydantic', 'asyncio', "
        "'logging', 'ipaddress'} & set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{words[-1] if len(words) > 1 else '/etc/vipd/vipd.yaml'}\n\n"


# ---------------------------------------------------------------- check


def test_check_says_what_a_good_file_promises(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """How long until another node takes over is arithmetic on the timings.

    3 s - 0.6 s up to 3 s and one step of rank.
    """
    file.write_text(GOOD)
    assert main(["check", "-c", str(file)]) == 0
    out = capsys.readouterr().out
    assert f"{file} is valid\n" in out
    assert "take over 2.40s to 3.05s later" in out
    assert "when only the daemon crashes or hangs, the address does not move" in out


def test_check_says_where_the_crash_promise_does_not_fit(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A warning with its place; the file is valid all the same."""
    file.write_text(
        GOOD + "timing: {lease_duration: 1s, renew_interval: 400ms, request_timeout: 250ms}\n"
    )
    assert main(["check", "-c", str(file)]) == 0
    assert f"{file}:4:9: warning: timing: a stuck daemon" in capsys.readouterr().out


def test_check_prints_all_findings_of_a_bad_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each, then how many."""
    file.write_text(GOOD + "a: 1\nb: 2\n")
    assert main(["check", "-c", str(file)]) == 2
    lines = [
        line for line in capsys.readouterr().out.splitlines() if "eth0 does not exist" not in line
    ]
    assert [line.split(" ")[1] for line in lines[:2]] == ["error:", "error:"]
    assert lines[2] == f"{file} is not valid: 2 errors"


def test_the_example_passes() -> None:
    """As an operator would check it."""
    assert vipd("check", "-c", "systemd/vipd.yaml").returncode == 0


def test_no_locale_makes_a_traceback(tmp_path: Path) -> None:
    """A file name that the terminal cannot show comes out as an escape."""
    done = vipd(
        "check",
        "-c",
        str(tmp_path / "ä\udcff.yaml"),
        LC_ALL="POSIX",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
    )
    assert (done.returncode, done.stderr) == (2, "")


def test_a_reader_that_closes_early_is_no_traceback() -> None:
    """`vipd check | head -0`."""
    with subprocess.Popen(
        [sys.executable, "-m", "vipd", "check", "-c", "systemd/vipd.yaml"],
        cwd=ROOT,
        stdout=-1,
        stderr=-1,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("redirection", "sentence"),
    [
        (">&-", "failed: standard output is closed, so nothing was shown\n"),
        (">/dev/full", "could not be written: No space left on device\n"),
    ],
)
@pytest.mark.parametrize("words", ["check -c systemd/vipd.yaml", "version"])
def test_an_output_that_takes_nothing_is_a_sentence(
    words: str, redirection: str, sentence: str
) -> None:
    """And exit 1: whoever reads the file later must not take it for whole."""
    argv = ["sh", "-c", f'exec "$0" -m vipd {words} {redirection}', sys.executable]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.endswith(sentence)


def test_check_takes_the_file_as_its_argument(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everybody tries that first."""
    file.write_text(GOOD)
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"{file} is valid\n")


# ---------------------------------------------------------------- commands to the daemon


def test_status_is_for_people_or_for_programs(socket_path: Path) -> None:
    """The same document."""
    code, out, _ = asked(socket_path, "status", "--socket", str(socket_path))
    assert (code, out.splitlines()[0]) == (0, "node   n1  vipd 0.1.0, session 5e55")
    code, out, _ = asked(socket_path, "status", "--json", "--socket", str(socket_path))
    assert (code, json.loads(out)) == (0, to_json(DOCUMENT))


def test_the_socket_comes_from_the_file(socket_path: Path, file: Path) -> None:
    """Also from one that somebody has just broken elsewhere."""
    file.write_text(f"control: {{socket: {socket_path}}}\ninstances: broken\n")
    assert asked(socket_path, "status", "-c", str(file))[0] == 0


@pytest.mark.parametrize(
    "content",
    ["control: {socket: relative}\n", "control: [\n", "control: {socket: '${VIPD_NO_SUCH}'}\n"],
)
def test_a_file_that_hides_its_socket_is_exit_2(file: Path, content: str) -> None:
    """Asking another daemon than the one that was named would be worse.

    None at the default socket says it runs with this file.
    """
    file.write_text(content)
    done = vipd("status", "-c", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{file}:1:" in done.stderr or f"{file}:2:" in done.stderr
    assert vipd("status", "-c", str(file) + ".none").returncode == 2


@pytest.mark.parametrize("same", [True, False])
def test_the_status_of_a_daemon_can_be_read_while_its_file_is_broken(
    socket_path: Path,
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    same: bool,
) -> None:
    """The daemon at the default socket says with which file it was started.

    One with another file is not asked.
    """
    file.write_text("control: [\n")
    monkeypatch.setattr("vipd.cli.ask.CONTROL_SOCKET", str(socket_path))
    started_with = os.path.realpath(file) if same else "/etc/vipd/other.yaml"
    document = replace(DOCUMENT, config=replace(DOCUMENT.config, file=started_with))

    async def answer(_command: str, _arguments: dict[str, object]) -> dict[str, object]:
        return to_json(document)

    async def run() -> int:
        server = ControlServer(socket_path, answer)
        await server.start()
        try:
            return await asyncio.to_thread(main, ["status", "--json", "-c", str(file)])
        finally:
            await server.close()

    assert asyncio.run(run()) == (0 if same else 2)
    told = capsys.readouterr()
    assert f"{file}:" in told.err
    assert (json.loads(told.out) == to_json(document)) if same else told.out == ""


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["handover", "ingress"], 0, "to= auto=False\n", ""),
        (["handover", "ingress", "--to", "n2"], 0, "to=n2 auto=False\n", ""),
        (["handover", "ingress", "--auto"], 0, "to= auto=True\n", ""),
        (["handover", "other"], 4, "", "refused: there is no instance of that name\n"),
        (["drain"], 4, "", "refused: no other node is fit\n"),
        (["drain", "--force"], 0, "drained\n", ""),
        (["resume"], 1, "", "failed: resume failed inside the daemon: ValueError: a bug\n"),
    ],
)
def test_commands_go_to_the_daemon(
    socket_path: Path, words: list[str], code: int, out: str, err: str
) -> None:
    """Each outcome has its exit code, and a sentence where it belongs."""
    assert asked(socket_path, *words, "--socket", str(socket_path)) == (code, out, err)


def test_status_of_an_instance_that_does_not_exist_is_refused(socket_path: Path) -> None:
    """With the names that there are."""
    code, out, err = asked(socket_path, "status", "web", "--socket", str(socket_path))
    assert (code, out, err) == (4, "", "refused: there is no instance 'web' here; there is none\n")


def test_no_daemon_is_exit_3(socket_path: Path) -> None:
    """With the path that was tried."""
    done = vipd("status", "--socket", str(socket_path))
    assert (done.returncode, done.stdout) == (3, "")
    assert str(socket_path) in done.stderr


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_gets_colours_unless_it_does_not_want_them(
    socket_path: Path, environ: dict[str, str], *, coloured: bool
) -> None:
    """https://no-color.org."""

    async def run() -> str:
        server = ControlServer(socket_path, handle)
        await server.start()
        try:
            words = ("status", "--socket", str(socket_path))
            return await asyncio.to_thread(lambda: on_a_terminal(*words, **environ))
        finally:
            await server.close()

    assert ("\x1b[" in asyncio.run(run())) is coloured
