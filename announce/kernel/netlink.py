"""One kept NETLINK_ROUTE socket: send ready-made requests, read back the addresses.

The guard imports this file too, and the guard must come up in milliseconds and never fail for want
of a library. So nothing but small parts of the standard library is imported, nothing is built here
but the dump request, and every call is synchronous and bounded. One socket belongs to one thread.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Sequence

from announce.kernel.rtnetlink import (
    ADDRESS,
    BODY_AT,
    IFA_ADDRESS,
    MESSAGE,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    ROUTE,
    RTA_DST,
    RTA_OIF,
    RTM_GETADDR,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWROUTE,
    RTN_LOCAL,
    WORD,
    BoundAddress,
    Route,
    answer_of,
    attribute,
    each_message,
    numbered,
    read_address,
    read_route,
)

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_GET_STRICT_CHK = 12
REQUEST_TIMEOUT = 0.25
"""Seconds for a call with a few messages, which takes less than a millisecond."""
MESSAGE_TIMEOUT = 0.002
"""Seconds more for each message. Measured (Linux 6.18, two cores): IPv4 takes 0.05 ms each, up to
1000; IPv6 grows with the square, since the kernel walks all addresses for each: 200 take 0.1 to 0.3
ms each, 1000 take 0.5 ms each."""
BATCH = 64
"""Messages in one send. If each were refused, each would be answered by a buffer of about 1 kB; by
default 208 kB are held."""
LARGEST_DATAGRAM = 65536
"""The kernel fills at most 32 kB in one go."""
_LATE = "the kernel did not answer netlink in time"


def ifindex_of(interface: str) -> int:
    """Return the number of the interface of this name; raises OSError (ENODEV) if there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:  # Python gives it no errno
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface) from error


def interface_name(ifindex: int) -> str:
    """Return the present name of an interface; its number if it is gone."""
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return str(ifindex)


def allowance(messages: int) -> float:
    """Return the seconds that so many messages may take."""
    return REQUEST_TIMEOUT + MESSAGE_TIMEOUT * messages


class RouteSocket:
    """A kept NETLINK_ROUTE socket of the network namespace in which it was opened."""

    def __init__(self) -> None:
        self._sequence = 0
        self._socket = self._opened()

    def _opened(self) -> socket.socket:
        kept = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        kept.bind((0, 0))
        # An acknowledgement without the request in it keeps all acknowledgements of a batch in the
        # receive buffer.
        kept.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        # With strict checking the kernel dumps the one interface that was asked for, not all of a
        # node with 500 pods.
        kept.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        return kept

    def fileno(self) -> int:
        """Return the descriptor, for one who closes all others."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def request(self, messages: Sequence[bytes], timeout: float | None = None) -> list[int]:
        """Send the messages and return the kernel's errno for each in order; 0 is success.

        Raises TimeoutError if not all were answered within `timeout` seconds (by default
        `allowance`): then nobody knows which were carried out. A send that waits for the kernel's
        own lock, held by another process, cannot be interrupted; an answer that is there when it
        comes back is taken, however late.
        """
        deadline = time.monotonic() + (allowance(len(messages)) if timeout is None else timeout)
        answers = dict[int, int]()
        while len(answers) < len(messages):
            # An overrun loses acknowledgements, not requests. What is unanswered is sent once more:
            # all are idempotent.
            waiting = [index for index in range(len(messages)) if index not in answers][:BATCH]
            answers.update(self._exchange(messages, waiting, deadline))
        return [answers[index] for index in range(len(messages))]

    def _exchange(
        self, messages: Sequence[bytes], waiting: list[int], deadline: float
    ) -> dict[int, int]:
        """Send one batch and return the answers by index.

        Fewer than were asked for after an overrun.

        The kernel carries a batch out in order and tells of each refusal unasked: only of the last
        one is an acknowledgement asked for. To have and to read one for each was about a quarter of
        the time for a thousand addresses (measured).
        """
        indexes = {self._next_sequence(): index for index in waiting}
        last = waiting[-1]
        self._send(
            b"".join(
                numbered(messages[index], number, ack=index == last)
                for number, index in indexes.items()
            ),
            deadline,
        )
        answers = dict[int, int]()
        overrun = False
        while overrun or last not in answers:
            try:
                datagram = self._receive(0.0 if overrun else deadline - time.monotonic())
            except TimeoutError:
                if overrun:
                    break
                raise
            if datagram is None:
                # The kernel says so first, though some answers did fit: without them no round would
                # get any further.
                overrun = True
                continue
            for kind, _, number, payload in each_message(datagram):
                if kind == NLMSG_ERROR and number in indexes:
                    answers[indexes[number]] = answer_of(payload)
        # After an overrun silence means nothing: a refusal may have been lost.
        return answers if overrun else dict.fromkeys(waiting, 0) | answers

    def addresses(
        self, ifindex: int | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> list[BoundAddress]:
        """Return what is bound on one interface or on all; nothing if the interface does not exist.

        A dump that the kernel itself calls inconsistent is made again. Raises TimeoutError, or
        OSError if refused.
        """
        body = ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, ifindex or 0)
        found = map(read_address, self._listed(RTM_GETADDR, body, RTM_NEWADDR, timeout))
        return [address for address in found if ifindex is None or address.ifindex == ifindex]

    def routes(self, family: int, ifindex: int, timeout: float = REQUEST_TIMEOUT) -> list[Route]:
        """Return the routes of all tables that leave by this interface.

        Raises TimeoutError, or OSError if refused.
        """
        body = ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_OIF, WORD.pack(ifindex))
        return list(map(read_route, self._listed(RTM_GETROUTE, body, RTM_NEWROUTE, timeout)))

    def ipv6_addresses(
        self, ifindex: int, ips: Sequence[bytes], timeout: float | None = None
    ) -> list[BoundAddress]:
        """Return those of these IPv6 addresses that are bound on the interface.

        Asks for each alone, 0.02 ms. Raises OSError.
        """
        deadline = time.monotonic() + (allowance(len(ips)) if timeout is None else timeout)
        body = ADDRESS.pack(socket.AF_INET6, 0, 0, 0, ifindex)
        answers = [self.ask(RTM_GETADDR, body + attribute(IFA_ADDRESS, ip), deadline) for ip in ips]
        found = [read_address(payload) for kind, payload in answers if kind == RTM_NEWADDR]
        # Where there is no such interface, the kernel looks on all.
        return [address for address in found if address.ifindex == ifindex]

    def is_served(self, ifindex: int, ip: bytes, timeout: float = REQUEST_TIMEOUT) -> bool:
        """Whether packets for this IPv6 address are delivered on this host.

        Its local route is there. Raises TimeoutError.
        """
        body = ROUTE.pack(socket.AF_INET6, 8 * len(ip), 0, 0, 0, 0, 0, 0, 0)
        body += attribute(RTA_DST, ip) + attribute(RTA_OIF, WORD.pack(ifindex))
        kind, payload = self.ask(RTM_GETROUTE, body, time.monotonic() + timeout)
        return kind == RTM_NEWROUTE and read_route(payload).kind == RTN_LOCAL

    def ask(self, kind: int, body: bytes, deadline: float) -> tuple[int, bytes]:
        """Send one request that is answered by one message.

        Return its type and payload. Raises TimeoutError.
        """
        while True:
            number = self._next_sequence()
            self._send(
                MESSAGE.pack(BODY_AT + len(body), kind, NLM_F_REQUEST, number, 0) + body, deadline
            )
            datagram = self._receive(deadline - time.monotonic())
            while datagram is not None:
                for answer, _, answered, payload in each_message(datagram):
                    if answered == number:
                        return answer, payload
                datagram = self._receive(deadline - time.monotonic())

    def _listed(self, asked: int, body: bytes, kind: int, timeout: float) -> list[bytes]:
        """Return the payloads of one kind; none where there is no such interface.

        Then it has nothing, which is an answer.
        """
        try:
            return [payload for found, payload in self.dump(asked, body, timeout) if found == kind]
        except OSError as error:
            if error.errno == errno.ENODEV:
                return []
            raise

    def dump(
        self, asked: int, body: bytes, timeout: float = REQUEST_TIMEOUT
    ) -> list[tuple[int, bytes]]:
        """Return type and payload of every message of a dump, made again if the kernel calls it
        inconsistent.

        Raises TimeoutError, or OSError with what the kernel refuses it with.
        """
        deadline = time.monotonic() + timeout
        try:
            while True:
                found = self._dump_once(asked, body, deadline)
                if found is not None:
                    return found
        except TimeoutError:
            # The kernel refuses a second dump (EBUSY) while the abandoned one is not read to its
            # end.
            self._socket.close()
            self._socket = self._opened()
            raise

    def _dump_once(
        self, asked: int, body: bytes, deadline: float
    ) -> list[tuple[int, bytes]] | None:
        """Return one dump, or None if it was overrun or interrupted by a change."""
        number = self._next_sequence()
        self._send(
            MESSAGE.pack(BODY_AT + len(body), asked, NLM_F_REQUEST | NLM_F_DUMP, number, 0) + body,
            deadline,
        )
        found: list[tuple[int, bytes]] = []
        whole = True
        while True:
            datagram = self._receive(deadline - time.monotonic())
            whole = whole and datagram is not None
            for kind, flags, answered, payload in each_message(datagram or b""):
                if answered != number:
                    continue
                whole = whole and not flags & NLM_F_DUMP_INTR
                if kind in {NLMSG_DONE, NLMSG_ERROR}:
                    raise_refusal(answer_of(payload))
                    return found if whole else None
                found.append((kind, payload))

    def _next_sequence(self) -> int:
        self._sequence = self._sequence % 0x7FFFFFFF + 1
        return self._sequence

    def _send(self, data: bytes, deadline: float) -> None:
        _left(deadline)
        # To the kernel a send does not wait for room: it is carried out before it returns.
        self._socket.sendto(data, (0, 0))

    def _receive(self, timeout: float) -> bytes | None:
        """Return the next datagram of the kernel, or None if the buffer was full and some were
        lost.

        Waits so many seconds, 0 and less for what is there already. Raises TimeoutError.
        """
        until = time.monotonic() + timeout
        while True:
            try:
                data, sender = self._socket.recvfrom(LARGEST_DATAGRAM)
            except BlockingIOError:
                self._wait(until)
                continue
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    return None
                raise
            # another process may write to this socket as well; only the kernel is port 0
            if sender[0] == 0:
                return bytes(data)

    def _wait(self, until: float) -> None:
        """Wait for a datagram.

        As a rule all are there when the send returns, so nobody waits before the first look.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.poll(_left(until) * 1000)


class NewsSocket:
    """Becomes readable when something of these groups (RTMGRP_) changes in the network namespace in
    which it was opened.

    `prepare` sets options before it hears anything. Raises OSError.
    """

    def __init__(
        self, groups: int, prepare: Callable[[socket.socket], None] = lambda _: None
    ) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        prepare(self._socket)
        self._socket.bind((0, groups))

    def fileno(self) -> int:
        """Return the descriptor to wait on; -1 once it is closed."""
        return self._socket.fileno()

    def read(self) -> tuple[list[tuple[int, bytes]], bool]:
        """Return type and payload of what came since the last call, and whether some is missing.
        Raises OSError.
        """
        found: list[tuple[int, bytes]] = []
        missing = False
        while True:
            try:
                datagram, sender = self._socket.recvfrom(LARGEST_DATAGRAM)
            except BlockingIOError:
                return found, missing
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                missing = True
                continue
            if sender[0] == 0:  # the kernel
                found += [(kind, payload) for kind, _, _, payload in each_message(datagram)]

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(_LATE)
    return left


def raise_refusal(answer: int, ok: int = 0) -> int:
    """Return the kernel's errno if it is none or the one that is as good.

    Else raise it as an OSError.
    """
    if answer not in {0, ok}:
        raise OSError(answer, os.strerror(answer))
    return answer
