"""What vipd asks of etcd's key-value store, as messages, one thing by itself or many in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from election.stores.etcd.rpc import rpc

LARGEST_COMPARED = 256 * 1024
"""Bytes of an old value that go into a request; etcd takes requests of 1.5 MiB, and a stranger may have filled one."""
MOST_TOGETHER = 126
"""Records in one transaction. etcd takes 128 operations (its max-txn-ops) and counts them along each path: those of the outer
transaction, and to them the larger number of a nested one's comparisons (two) and writes (measured, 3.4.23)."""
MOST_BYTES = 512 * 1024
"""Bytes of keys and values in one transaction, a third of what etcd takes; a larger record goes by itself."""


@dataclass(frozen=True, slots=True)
class Item:
    """A key with its value, and the store's revision at which it got it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Swap:
    """Write the value if the key is still as it was `before`; None: absent.

    The old value is compared besides its revision: after a restore from a backup etcd gives revisions out again.
    """

    key: str
    value: bytes
    before: Item | None

    @property
    def size(self) -> int:
        """Bytes in a request, roughly."""
        return 3 * len(self.key) + len(self.value) + (len(self.before.value) if self.before else 0)


def swap_request(swap: Swap) -> Any:  # noqa: ANN401 - a protobuf message
    """Return the transaction that does this."""
    name, before = swap.key.encode(), swap.before
    compare = [rpc.Compare(key=name, target=rpc.Compare.MOD, mod_revision=before.revision if before else 0)]
    if before is not None and len(before.value) <= LARGEST_COMPARED:
        compare.append(rpc.Compare(key=name, target=rpc.Compare.VALUE, value=before.value))
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=name, value=swap.value))
    return rpc.TxnRequest(compare=compare, success=[put])


def together(swaps: Sequence[Swap]) -> Any:  # noqa: ANN401 - a protobuf message
    """Return one transaction of a nested one for each, so that each is judged by itself: a conflict costs no other its write."""
    return rpc.TxnRequest(success=[rpc.RequestOp(request_txn=swap_request(swap)) for swap in swaps])


def fitting(swaps: Sequence[Swap]) -> int:
    """Return how many of these, from the first on, may go into one transaction: etcd refuses one that writes a key twice."""
    keys: set[str] = set()
    size = 0
    for swap in swaps[:MOST_TOGETHER]:
        size += swap.size
        if keys and (swap.key in keys or size > MOST_BYTES):
            break
        keys.add(swap.key)
    return len(keys)


def read_request(key: str) -> Any:  # noqa: ANN401 - a protobuf message
    """Return the request for one key."""
    return rpc.RangeRequest(key=key.encode())


def read_together(keys: Sequence[str]) -> Any:  # noqa: ANN401 - a protobuf message
    """Return one transaction that reads all of these; without a write in it etcd makes it linearizable as it makes a read."""
    return rpc.TxnRequest(success=[rpc.RequestOp(request_range=read_request(key)) for key in keys])


def item_of(kv: Any) -> Item:  # noqa: ANN401 - a protobuf message
    """Return the item in a message."""
    return Item(bytes(kv.key).decode(errors="replace"), bytes(kv.value), int(kv.mod_revision))


def first_item(found: Any) -> Item | None:  # noqa: ANN401 - a protobuf message
    """Return the first item in the answer to a read, if there is one."""
    return item_of(found.kvs[0]) if found.kvs else None
