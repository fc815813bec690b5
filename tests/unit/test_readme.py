"""What README.md shows works: its configuration is valid, its commands are
understood, its files are there.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vipd.cli.main import _parser
from vipd.config.load import Surroundings, examine

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks() -> list[str]:
    """Return the indented blocks of the text, without their indentation."""
    found = re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", README, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def commands() -> list[str]:
    """Return every line of a block that is a call of vipd, without the words about it."""
    lines = [line for block in blocks() for line in block.splitlines()]
    calls = [re.split(r"\s{2,}", line)[0] for line in lines if line.startswith("vipd ")]
    return sorted({f"vipd {part.strip()}" for call in calls for part in call[5:].split("|")})


def mentioned() -> list[str]:
    """Return the commands that the text names, as single words."""
    return sorted(set(re.findall(r"`vipd\s+([a-z]+)", README)))


def configuration() -> str:
    """Return the block that is a whole configuration."""
    [found] = [block for block in blocks() if block.startswith("node: ")]
    return found


def examined(text: str, folder: Path) -> list[str]:
    """Return what is wrong with a configuration, as sentences."""
    (folder / "vipd.yaml").write_text(text)
    known = Surroundings({}, "edge1", lambda _names, _seconds: {})
    result = examine(str(folder / "vipd.yaml"), known)
    return [str(finding) for finding in result.findings if not finding.warning]


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    """Copied as it stands."""
    assert examined(configuration(), tmp_path) == []


@pytest.mark.parametrize("kind", ["kubernetes", "etcd", "file"])
def test_each_store_that_it_lists_is_valid(kind: str, tmp_path: Path) -> None:
    """Put in the place of the example's; the endpoints that are left out are the example's."""
    [line] = [
        line for block in blocks() for line in block.splitlines() if line.startswith(f"{kind}: {{")
    ]
    store = line.partition("  #")[0].replace("[...]", '["http://10.0.0.11:2379"]')
    text = re.sub(r"(?m)^backend:\n  .*$", f"backend:\n  {store}", configuration())
    assert store in text
    assert examined(text, tmp_path) == []


def test_a_mistake_in_it_would_be_found(tmp_path: Path) -> None:
    """The tests above can fail."""
    assert examined(configuration().replace("priority: 150", "priority: 1500"), tmp_path) != []


@pytest.mark.parametrize("call", commands())
def test_its_commands_are_understood(call: str) -> None:
    """With all that is optional in them."""
    _parser().parse_args(re.sub(r"[\[\]]", "", call).split()[1:])


@pytest.mark.parametrize("word", mentioned())
def test_a_command_in_its_text_exists(word: str) -> None:
    """argparse ends with 0 after the help of a command, and with 2 where there is none."""
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args([word, "--help"])
    assert ended.value.code == 0


def test_the_files_that_the_architecture_names_are_there() -> None:
    """A path in backticks that begins with a package or ends in .py."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    found = re.findall(r"`((?:vipd|election|announce|health|tests)/[\w./]*|[\w./]+\.py)`", text)
    assert len(found) > 20
    assert [name for name in sorted(set(found)) if not (ROOT / name).exists()] == []


def test_the_files_that_it_names_are_there() -> None:
    """A path in the text that begins with a folder of this repository."""
    named = set(re.findall(r"(?<![\w/])((?:systemd|deploy|tests)/[\w./-]*\w)", README))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
