"""`vipd run`: becomes the guard, which starts the daemon."""

from __future__ import annotations

import argparse

from vipd.guard import guard


def main(args: argparse.Namespace) -> int:
    """Run until stopped; `args`: config. Return the exit code."""
    return guard.run(args.config)
