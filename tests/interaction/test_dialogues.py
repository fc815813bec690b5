"""Each file tells one story, to the millisecond. `pytest tests/interaction --rewrite` writes them anew; read the diff."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.interaction.driver import Driver
from tests.interaction.golden import replay

HERE = Path(__file__).parent
STORIES = sorted(HERE.glob("*.txt"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_the_story_is_told_as_written(story: Path, rewrite: bool) -> None:
    """Nothing differs from the file, and no promise was violated."""
    written = story.read_text()
    told = replay(written, Driver().perform)
    assert "VIOLATION" not in told, told
    if rewrite:
        story.write_text(told)
        return
    difference = "\n".join(difflib.unified_diff(written.splitlines(), told.splitlines(), story.name, "now", lineterm=""))
    assert not difference, f"\n{difference}\n\nIf this is what you want: pytest tests/interaction --rewrite, and read the diff"


def test_every_story_opens_with_what_it_proves() -> None:
    """An operator reads the first line of each file."""
    assert STORIES
    for story in STORIES:
        assert story.read_text().startswith("# "), story.name


@pytest.mark.parametrize("text", ["run-until 3\n", "check\n\nok\n"])
def test_a_command_without_its_rule_is_refused(text: str) -> None:
    """A file that is not in form is no story."""
    with pytest.raises(ValueError, match="no ----"):
        replay(text, Driver().perform)
