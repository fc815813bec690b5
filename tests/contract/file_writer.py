"""A process that adds 1 to the counter of a record for as long as it lives, and logs what each
write was told.

    file_writer.py ROOT LOG NAME

A line of the log is written after its write: `<counter> <Applied|Conflict|Unknown>`.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from election.model import Found
from election.stores.file.records import FileRecords

ELECTION = "ingress"


def main(root: str, log: str, name: str) -> None:
    """Write without a pause."""
    files = FileRecords(Path(root), 60.0)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        seen = files.read(ELECTION)
        if not isinstance(seen, Found):
            os.write(out, f"0 {seen}\n".encode())
            continue
        counter = seen.record.counter + 1
        answer = files.write(
            ELECTION, replace(seen.record, counter=counter, holder=name), seen.revision
        )
        os.write(out, f"{counter} {type(answer).__name__}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
