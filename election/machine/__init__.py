"""The election of one virtual IP as a value machine; pure.

For others: `machine.Machine`, `snapshot`.
"""
