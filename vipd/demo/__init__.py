"""`vipd demo`: the product at work, in network namespaces of one machine.

Some nodes with an ingress each, a client that probes the VIP a thousand times a second, and every
fault that vipd promises to survive. Nothing here runs in the daemon; nothing is left behind,
however the demo ends. For others: `sandbox.enter`. The ingress and the prober are started from this
package as well: they must not load what only the stage needs.
"""
