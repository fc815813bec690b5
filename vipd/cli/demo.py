"""`vipd demo`: starts vipd.demo, which is no part of the daemon."""

from __future__ import annotations

import argparse
import sys

from vipd.cli.exit_codes import USAGE
from vipd.demo.sandbox import enter
from vipd.demo.scenarios import SCENARIOS


def main(args: argparse.Namespace) -> int:
    """Run the scenarios; return the exit code.

    `args`: nodes, backend (None: etcd where installed), until (the last one; empty: all), json.
    """
    known = [scenario.key for scenario in SCENARIOS]
    if args.until and args.until not in known:
        print(f"there is no scenario {args.until!r}; there is {', '.join(known)}", file=sys.stderr)
        return USAGE
    return enter(args.nodes, args.backend, args.until, as_json=args.json)
