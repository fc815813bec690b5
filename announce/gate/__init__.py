"""The kernel's gate.

From an election's deadline on, no frame for its addresses comes in and none in their name goes out.

For others: `gates.Gates`, `support` (can it work here), `maps` (the deadlines).
"""
