"""The exit codes of every command."""

from __future__ import annotations

DONE = 0
FAILED = 1
USAGE = 2
"""Wrong words on the command line, or a configuration that is not valid."""
UNREACHABLE = 3
"""No daemon answers on the control socket."""
REFUSED = 4
"""The sentence on standard error says why."""
