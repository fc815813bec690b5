"""One event loop that owns the machine of every election on this node.

For others: `daemon.main`, which the guard's children run; the other modules are its parts.
"""
