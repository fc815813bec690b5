"""A node's ingress for several VIPs: the demo's, with a further echo for each further VIP.

Runs as a process of its own: `python -m tests.bench.soak_ingress NODE VIP [VIP …]`. Signals and
ports are the demo's.
"""

from __future__ import annotations

import sys
import threading

from vipd.demo import ingress

if __name__ == "__main__":
    for vip in sys.argv[3:]:
        threading.Thread(target=ingress.echo, args=(sys.argv[1], vip), daemon=True).start()
    ingress.main()
