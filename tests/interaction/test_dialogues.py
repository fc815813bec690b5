"""Each .txt file beside this one tells one story of the election, to the millisecond of virtual
time.

To write all of them anew with what the machines say now, and then to read what has changed:

    pytest tests/interaction --rewrite && git diff tests/interaction

A new story: list it in STORIES, write its commands into a file, each with a line `----` and an
empty line after it, and rewrite. driver.py says what a command is, narration.py what the output
means.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interaction.driver import COMMANDS, Driver
from tests.interaction.golden import commands, difference, replay
from tests.interaction.stories import STORIES

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.txt"))
LONGEST = 75
"""Lines of a story: what cannot be told on one page is two stories."""


@pytest.mark.parametrize("story", FILES, ids=lambda path: path.stem)
def test_the_story_is_told_as_written(story: Path, rewrite: bool) -> None:
    """Nothing differs from the file, and no promise was broken."""
    written = story.read_text()
    told = replay(written, Driver().perform)
    if "VIOLATION" in told:
        pytest.fail(f"a promise is broken in {story.name}:\n\n{told}", pytrace=False)
    if rewrite:
        story.write_text(told)
    elif told != written:
        hint = (
            "If this is what it should say: pytest tests/interaction --rewrite && git diff "
            "tests/interaction"
        )
        pytest.fail(f"{difference(story.name, written, told)}\n\n{hint}", pytrace=False)


def test_every_story_has_its_file_and_every_file_its_story() -> None:
    """A story cannot be lost, and no file lies about that nobody can name the rule of."""
    listed = [name for stories in STORIES.values() for name in stories]
    assert len(listed) == len(set(listed))
    assert {f"{name}.txt" for name in listed} == {file.name for file in FILES}


@pytest.mark.parametrize("story", FILES, ids=lambda path: path.stem)
def test_a_story_opens_with_what_it_proves_and_ends_with_the_verdict(story: Path) -> None:
    """An operator reads the first line of each file and sees at the end whether
    the promises held.
    """
    lines = story.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert lines[0].endswith(".")
    assert lines[-3:-1] == ["check", "----"]
    assert len(lines) <= LONGEST


def test_every_command_is_used_and_says_how_it_is_written() -> None:
    """What no story needs is no part of the language."""
    used = {name for story in FILES for name in commands(story.read_text())}
    assert used == set(COMMANDS)
    for name, command in COMMANDS.items():
        assert (command.__doc__ or "").startswith((f"{name} ", f"{name}:")), name


def test_the_readme_has_every_command_as_it_is_written() -> None:
    """Who writes a story reads the language there."""
    readme = " ".join((HERE.parent / "README.md").read_text(encoding="utf-8").split())
    for name, command in COMMANDS.items():
        form = " ".join((command.__doc__ or "").split()).partition(": ")[0].partition(". ")[0]
        assert f" {form.rstrip('.')}" in readme, name


@pytest.mark.parametrize("text", ["run-until 3\n", "check\n\nok\n"])
def test_a_command_without_its_rule_is_refused(text: str) -> None:
    """A file that is not in form is no story."""
    with pytest.raises(ValueError, match="no ----"):
        replay(text, Driver().perform)


@pytest.mark.parametrize(
    ("text", "said"), [("sing\n----\n", "no command 'sing'"), ("stop a\n----\n", "no node 'a'")]
)
def test_a_command_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    """A typing error is no quiet success."""
    with pytest.raises(ValueError, match=said):
        replay(text, Driver().perform)
