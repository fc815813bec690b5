"""The program of the process that searches bodies for patterns.

`health.kinds.search` starts it by its file name and talks to it.

In: pattern and text (UTF-8), each with its length, and the seconds of CPU that the search may take.
Out: `1` found, `0` not found, `!` not searchable. A search that takes longer ends the process by a
signal of the kernel, also when nobody waits any more: the regular expression engine neither answers
Python's signal handlers nor sees the end of its input. Imports little: it is 9 MB.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import struct
import sys
from typing import BinaryIO

HEAD = struct.Struct("!IId")
MEMORY = 256 << 20
"""Bytes of address space: a pattern that collects without end is refused memory, and does not take
it from the ingress."""
FOUND, MISSING, IMPOSSIBLE = b"1", b"0", b"!"


def serve(requests: BinaryIO, answers: int) -> None:
    """Answer until the input ends."""
    while len(head := requests.read(HEAD.size)) == HEAD.size:
        of_pattern, of_text, seconds = HEAD.unpack(head)
        pattern, text = (
            requests.read(length).decode("utf-8", "replace") for length in (of_pattern, of_text)
        )
        signal.setitimer(signal.ITIMER_PROF, seconds)
        answer = search(pattern, text)
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(answers, answer)


def search(pattern: str, text: str) -> bytes:
    """Return the answer to one request."""
    try:
        return FOUND if re.search(pattern, text) else MISSING
    except (re.error, MemoryError, RecursionError, OverflowError):
        return IMPOSSIBLE


def main() -> None:
    """Serve standard input and output; `argv` has the niceness."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.nice(int(sys.argv[1]))
    serve(sys.stdin.buffer, sys.stdout.fileno())


if __name__ == "__main__":
    main()
