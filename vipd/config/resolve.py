"""Looks up host names within a bounded time, in threads that nobody waits for.

getaddrinfo(3) itself has no limit.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

Addresses = frozenset[IPv4Address | IPv6Address]
Resolve = Callable[[Sequence[str], float], Mapping[str, Addresses]]
"""Names and seconds in, addresses out; names that could not be resolved in time are missing."""

MOST_NAMES = 32
"""Each lookup is a thread; a configuration with more host names than this has the rest reported as
not looked up."""


def resolve(names: Sequence[str], seconds: float) -> dict[str, Addresses]:
    """Return the addresses of the names that were resolved within `seconds`, all together."""
    end = time.monotonic() + seconds
    found: dict[str, Addresses] = {}
    threads = [
        threading.Thread(target=_look_up, args=(name, found), daemon=True)
        for name in list(dict.fromkeys(names))[:MOST_NAMES]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0.0))
    # A copy: a lookup that ends later must not change what the caller iterates over.
    return dict(found)


def _look_up(name: str, found: dict[str, Addresses]) -> None:
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return
    found[name] = frozenset(
        ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers
    )
