"""`vipd demo`: starts vipd.demo, which is no part of the daemon."""

from __future__ import annotations

import argparse

from vipd.demo.sandbox import enter


def main(args: argparse.Namespace) -> int:
    """Run all scenarios; `args`: nodes, backend (None: etcd where installed), json. Return the exit code."""
    return enter(nodes=args.nodes, backend=args.backend, as_json=args.json)
