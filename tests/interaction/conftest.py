"""Adds the option that writes the golden files anew."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --rewrite. Only commit the changes if you understand them."""
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write the golden dialogues anew with what the machines say now",
    )


@pytest.fixture
def rewrite(pytestconfig: pytest.Config) -> bool:
    """Return whether the golden files are to be written anew."""
    return bool(pytestconfig.getoption("--rewrite", default=False))
