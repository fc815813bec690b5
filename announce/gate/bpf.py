"""The few calls of bpf(2) that the gate needs: maps, programs, test runs.

Standard library only, since the guard makes them.

There is no wrapper for this system call in the C library. Layouts and numbers are those of
linux/bpf.h (union bpf_attr); the kernel takes a shorter attribute than its own and sees the rest as
zeros. All descriptors are close-on-exec.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import NamedTuple

from announce.errors import BpfError

MAP_HASH = 1
MAP_ARRAY = 2
F_MMAPABLE = 1 << 10
"""Flag of an array map that processes can map into their memory (Linux 5.5)."""
TCX_INGRESS = 46
TCX_EGRESS = 47

_SYSTEM_CALL = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64le": 361,
    "s390x": 351,
}
_MAP_CREATE = 0
_MAP_LOOKUP_ELEM = 1
_MAP_UPDATE_ELEM = 2
_MAP_DELETE_ELEM = 3
_PROG_LOAD = 5
_PROG_TEST_RUN = 10
_OBJ_GET_INFO_BY_FD = 15
_PROG_QUERY = 16
_PROG_TYPE_SCHED_CLS = 3
_NAME_LENGTH = 16
_INSTRUCTION_LENGTH = 8
_LOG_LENGTH = 65536
_REMARKS = 3
"""Last lines of the verifier's log that an error shows: the reason, between the statement before
and the statistics after it."""
_AT_ONCE = {errno.EINTR, errno.EAGAIN}

_libc = ctypes.CDLL(None, use_errno=True)


class Run(NamedTuple):
    """What a program said of a frame.

    Its return value as a signed number, and ns for one run (an average of all repeats).
    """

    verdict: int
    nanoseconds: int


class Descriptor:
    """A map or a program of the kernel, which lives as long as somebody has a descriptor, a mapping
    or a filter of it.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """Return the descriptor; raises ValueError once it is closed."""
        if self._number < 0:
            raise ValueError("this descriptor is closed")
        return self._number

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1


class Map(Descriptor):
    """A map with keys and values of fixed size.

    All methods raise BpfError when the kernel refuses.
    """

    def __init__(self, number: int, key_size: int, value_size: int) -> None:
        super().__init__(number)
        self._key_size = key_size
        self._value_size = value_size

    def set(self, key: bytes, value: bytes) -> None:
        """Store a value; a map that is full refuses with E2BIG."""
        self._element(_MAP_UPDATE_ELEM, key, self._checked(value, self._value_size))

    def get(self, key: bytes) -> bytes | None:
        """Return the value, None if there is none."""
        value = ctypes.create_string_buffer(self._value_size)
        try:
            self._element(_MAP_LOOKUP_ELEM, key, value)
        except BpfError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return value.raw

    def delete(self, key: bytes) -> None:
        """Remove a key; one that is not there is as good."""
        try:
            self._element(_MAP_DELETE_ELEM, key, None)
        except BpfError as error:
            if error.errno != errno.ENOENT:
                raise

    def _element(self, command: int, key: bytes, value: ctypes.Array[ctypes.c_char] | None) -> None:
        kept = self._checked(key, self._key_size)
        _bpf(command, struct.pack("=IxxxxQQQ", self.fileno(), _address(kept), _address(value), 0))

    @staticmethod
    def _checked(data: bytes, size: int) -> ctypes.Array[ctypes.c_char]:
        if len(data) != size:  # the kernel would read beyond the end of what is too short
            raise ValueError(f"{len(data)} bytes instead of {size}")
        return ctypes.create_string_buffer(data, size)


class Program(Descriptor):
    """A loaded program."""

    @property
    def id(self) -> int:
        """The number by which the kernel knows the program, and a filter names it."""
        info = ctypes.create_string_buffer(8)
        _bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", self.fileno(), len(info), _address(info)))
        return int(struct.unpack("=II", info.raw)[1])

    def run(self, frame: bytes, repeat: int = 1) -> Run:
        """Run the program on a frame (BPF_PROG_TEST_RUN) that nobody receives.

        Raises BpfError for one under 14 bytes.
        """
        data = ctypes.create_string_buffer(frame, len(frame))
        attribute = struct.pack(
            "=IIIIQQII", self.fileno(), 0, len(frame), 0, _address(data), 0, repeat, 0
        )
        while True:
            try:
                answer = _bpf(_PROG_TEST_RUN, attribute)
            except BpfError as error:
                if error.errno not in _AT_ONCE:  # a signal came in a long run
                    raise
            else:
                return Run(
                    struct.unpack_from("=i", answer, 4)[0], struct.unpack_from("=I", answer, 36)[0]
                )


def create_map(
    kind: int, sizes: tuple[int, int], entries: int, *, flags: int = 0, name: str = ""
) -> Map:
    """Return a new map of zeros or without entries.

    `sizes` are those of a key and of a value in bytes. Raises BpfError.
    """
    key_size, value_size = sizes
    attribute = struct.pack(
        "=IIIIIII16s", kind, key_size, value_size, entries, flags, 0, 0, _name(name)
    )
    return Map(_opened(_MAP_CREATE, attribute), key_size, value_size)


def load(instructions: bytes, program_license: str, name: str = "") -> Program:
    """Load a program for traffic control (BPF_PROG_TYPE_SCHED_CLS).

    Raises BpfError with what the verifier said.
    """
    try:
        return _loaded(instructions, program_license, name, None)
    except BpfError as error:
        if error.errno not in {errno.EACCES, errno.EINVAL}:
            raise
        log = ctypes.create_string_buffer(_LOG_LENGTH)
        try:
            return _loaded(instructions, program_license, name, log)
        except BpfError as again:
            said = " · ".join(log.value.decode(errors="replace").strip().splitlines()[-_REMARKS:])
            raise BpfError(again.errno, f"{again.strerror}: {said}") from error


def _loaded(
    instructions: bytes, program_license: str, name: str, log: ctypes.Array[ctypes.c_char] | None
) -> Program:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    terms = ctypes.create_string_buffer(program_license.encode())
    attribute = struct.pack(
        "=IIQQIIQII16s",
        _PROG_TYPE_SCHED_CLS,
        len(instructions) // _INSTRUCTION_LENGTH,
        _address(code),
        _address(terms),
        int(log is not None),
        0 if log is None else len(log),
        _address(log),
        0,
        0,
        _name(name),
    )
    return Program(_opened(_PROG_LOAD, attribute))


def tcx_programs(ifindex: int) -> int:
    """Return how many programs are asked on this interface before traffic control is (tcx, Linux
    6.6); raises BpfError.
    """
    return sum(_queried(ifindex, kind) for kind in (TCX_INGRESS, TCX_EGRESS))


def _queried(ifindex: int, kind: int) -> int:
    try:
        answer = _bpf(_PROG_QUERY, struct.pack("=IIIIQI36x", ifindex, kind, 0, 0, 0, 0))
    except BpfError as error:
        # a kernel that has no tcx, an interface that has none
        if error.errno in {errno.EINVAL, errno.ENOENT, errno.ENODEV}:
            return 0
        raise
    return int(struct.unpack_from("=I", answer, 24)[0])


# ---------------------------------------------------------------- the system call


def _opened(command: int, attribute: bytes) -> int:
    kept = ctypes.create_string_buffer(attribute, len(attribute))
    return _called(command, kept)


def _bpf(command: int, attribute: bytes) -> bytes:
    """Make a call that returns no descriptor; return the attribute as the kernel left it."""
    kept = ctypes.create_string_buffer(attribute, len(attribute))
    _called(command, kept)
    return kept.raw


def _called(command: int, attribute: ctypes.Array[ctypes.c_char]) -> int:
    number = _SYSTEM_CALL.get(os.uname().machine)
    if number is None:
        raise BpfError(errno.ENOSYS, f"bpf(2) is not known here for {os.uname().machine}")
    result = int(
        _libc.syscall(
            ctypes.c_long(number), ctypes.c_int(command), attribute, ctypes.c_uint(len(attribute))
        )
    )
    if result < 0:
        raise BpfError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _address(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    return 0 if buffer is None else ctypes.addressof(buffer)


def _name(name: str) -> bytes:
    return name.encode()[: _NAME_LENGTH - 1]
