"""`vipd demo`: the product at work, in network namespaces of one machine.

Some nodes with an ingress each, a client that probes the VIP a thousand times a second, and every fault that vipd
promises to survive. Nothing here runs in the daemon; nothing is left behind, however the demo ends.
"""

from __future__ import annotations

import argparse


def main(args: argparse.Namespace) -> int:
    """Run all scenarios; `args` has nodes, backend (None: etcd where it is installed) and json. Return the exit code."""
    # The ingress and the prober are started from this package as well: they must not load what only the stage needs.
    from vipd.demo.sandbox import enter  # noqa: PLC0415

    return enter(nodes=args.nodes, backend=args.backend, as_json=args.json)
