"""Whether this node is fit to hold the virtual IP: checks, rise and fall, weights.

Each check is asked at its interval in a task of its own; single results become a verdict by rise
and fall, and all verdicts of an instance one fitness and one effective priority. A check that
crashes or hangs is a failed check. Nothing here delays the election, knows of leases, or touches an
address.
"""
