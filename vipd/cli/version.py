"""`vipd version`: the version of vipd, of Python and of the kernel."""

from __future__ import annotations

import argparse
import platform

from vipd.cli.exit_codes import DONE
from vipd.version import VERSION


def main(_args: argparse.Namespace) -> int:
    """Print one line; return DONE."""
    print(f"vipd {VERSION} (Python {platform.python_version()}, Linux {platform.release()})")
    return DONE
