"""A small assembler for the kernel's BPF machine.

One statement a line, in the notation of the kernel's own disassembler.

    ; a comment                                 to the end of the line
    again:                                      a label
    r1 = r2        r1 = -1                      r0 to r10, 64 bits; numbers: 32 bits, signed
    r1 += 4        r1 &= r2                     + - * & | ^ << >>
    r1 = u16[r2 + 12]                           load; u8, u16, u32, u64
    u32[r10 - 4] = r1     u32[r10 - a + 2] = 0  store
    lock u64[r1 + 8] += r2                      add atomically; u32, u64
    r1 = map addresses                          the map with this descriptor
    call map_lookup_elem                        of the kernel: arguments r1 to r5, result r0
    if r1 >= r2 goto again                      == != > >= < <= (unsigned), s> s>= s< s<=, &;
                                                the right side may be a number
    goto again     exit

A number may be written as a name; names, maps and functions are given. Encoding:
Documentation/bpf/standardization of the Linux kernel. Jumps lead forward or backward; whether a
program may loop is for the verifier to say.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from announce.errors import AssemblyError

FUNCTIONS = {"map_lookup_elem": 1, "skb_load_bytes": 26, "fib_lookup": 69, "ktime_get_boot_ns": 125}
"""Those that the gate calls, by the kernel's names less `bpf_`, with their numbers in
linux/bpf.h."""

_SIZES = {"u32": 0x00, "u16": 0x08, "u8": 0x10, "u64": 0x18}
_OPERATIONS = {
    "+": 0x00,
    "-": 0x10,
    "*": 0x20,
    "|": 0x40,
    "&": 0x50,
    "<<": 0x60,
    ">>": 0x70,
    "^": 0xA0,
}
_CONDITIONS = {
    "==": 0x10,
    ">": 0x20,
    ">=": 0x30,
    "&": 0x40,
    "!=": 0x50,
    "s>": 0x60,
    "s>=": 0x70,
    "<": 0xA0,
    "<=": 0xB0,
    "s<": 0xC0,
    "s<=": 0xD0,
}
_MOVE = 0xB0
_ALU64, _JUMP, _LOAD, _STORE_NUMBER, _STORE = 0x07, 0x05, 0x61, 0x62, 0x63
_ATOMIC = 0xC3
_FROM_REGISTER = 0x08
_LOAD_64 = 0x18
_PSEUDO_MAP = 1
_CALL, _EXIT = 0x85, 0x95
_LITTLE_ENDIAN = sys.byteorder == "little"
_INSTRUCTION = struct.Struct("=BBhi")

_REGISTER = r"r(10|\d)"
_VALUE = r"(-?\w+)"
_PLACE = rf"(u8|u16|u32|u64)\[{_REGISTER}((?: [+-] \w+)*)\]"


@dataclass(frozen=True, slots=True)
class _Instruction:
    """One instruction before its jump is known; `target` is a label."""

    code: int
    to: int = 0
    source: int = 0
    offset: int = 0
    number: int = 0
    target: str = ""

    def encoded(self, offset: int) -> bytes:
        # The two registers share a byte, as bit fields: their order follows the machine's.
        low, high = (self.to, self.source) if _LITTLE_ENDIAN else (self.source, self.to)
        return _INSTRUCTION.pack(self.code, high << 4 | low, offset, self.number)


@dataclass(slots=True)
class _Assembly:
    """What was read so far."""

    names: Mapping[str, int]
    maps: Mapping[str, int]
    instructions: list[_Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def statement(self, text: str) -> None:
        for pattern, read in _STATEMENTS:
            found = pattern.fullmatch(text)
            if found:
                read(self, *found.groups())
                return
        raise AssemblyError(f"this is no statement: {text}")

    def value(self, text: str) -> int:
        """Return a number as the signed 32 bits that an instruction holds."""
        sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
        try:
            return _signed(sign * (self.names[digits] if digits in self.names else int(digits, 0)))
        except ValueError:
            raise AssemblyError(f"{text} is neither a 32-bit number nor a given name") from None

    def offset(self, terms: str) -> int:
        """Return the sum of ` + 4 - name`, nothing being 0."""
        total = sum(
            self.value(sign.strip("+") + text) for sign, text in re.findall(r" ([+-]) (\w+)", terms)
        )
        if not -(1 << 15) <= total < 1 << 15:
            raise AssemblyError(f"{total} does not fit into 16 bits")
        return total

    def operand(self, text: str) -> tuple[int, int, int]:
        """Return what a right side adds to the code, its register and its number."""
        register = re.fullmatch(_REGISTER, text)
        return (_FROM_REGISTER, int(register[1]), 0) if register else (0, 0, self.value(text))

    def add(self, instruction: _Instruction) -> None:
        self.instructions.append(instruction)


def assemble(text: str, names: Mapping[str, int], maps: Mapping[str, int]) -> bytes:
    """Return the program's instructions, 8 bytes each.

    `maps` are descriptors. Raises AssemblyError.
    """
    assembly = _Assembly(names, maps)
    for number, line in enumerate(text.splitlines(), 1):
        statement = " ".join(line.partition(";")[0].split())
        if statement:
            try:
                assembly.statement(statement)
            except AssemblyError as error:
                raise AssemblyError(f"line {number}: {error}") from None
    return b"".join(
        _linked(assembly, index, item) for index, item in enumerate(assembly.instructions)
    )


def _linked(assembly: _Assembly, index: int, instruction: _Instruction) -> bytes:
    if not instruction.target:
        return instruction.encoded(instruction.offset)
    if instruction.target not in assembly.labels:
        raise AssemblyError(f"there is no label {instruction.target}")
    return instruction.encoded(assembly.labels[instruction.target] - index - 1)


def _signed(number: int) -> int:
    if not -(1 << 31) <= number < 1 << 32:
        raise ValueError(number)
    return number - (1 << 32) if number >= 1 << 31 else number


# ---------------------------------------------------------------- statements


def _label(assembly: _Assembly, name: str) -> None:
    if name in assembly.labels:
        raise AssemblyError(f"there are two labels {name}")
    assembly.labels[name] = len(assembly.instructions)


def _move(assembly: _Assembly, to: str, right: str) -> None:
    from_register, source, number = assembly.operand(right)
    assembly.add(_Instruction(_ALU64 | _MOVE | from_register, int(to), source, number=number))


def _calculate(assembly: _Assembly, to: str, operation: str, right: str) -> None:
    from_register, source, number = assembly.operand(right)
    assembly.add(
        _Instruction(
            _ALU64 | _OPERATIONS[operation] | from_register, int(to), source, number=number
        )
    )


def _load(assembly: _Assembly, to: str, size: str, base: str, terms: str) -> None:
    assembly.add(_Instruction(_LOAD | _SIZES[size], int(to), int(base), assembly.offset(terms)))


def _store(assembly: _Assembly, size: str, base: str, terms: str, right: str) -> None:
    from_register, source, number = assembly.operand(right)
    code = _STORE if from_register else _STORE_NUMBER
    assembly.add(
        _Instruction(code | _SIZES[size], int(base), source, assembly.offset(terms), number)
    )


def _add_atomically(assembly: _Assembly, size: str, base: str, terms: str, source: str) -> None:
    if size not in {"u32", "u64"}:
        raise AssemblyError(f"nothing adds to a {size} atomically")
    assembly.add(
        _Instruction(_ATOMIC | _SIZES[size], int(base), int(source), assembly.offset(terms))
    )


def _load_map(assembly: _Assembly, to: str, name: str) -> None:
    if name not in assembly.maps:
        raise AssemblyError(f"there is no map {name}")
    # 64 bits do not fit into one instruction: the second one only carries the upper half.
    assembly.add(_Instruction(_LOAD_64, int(to), _PSEUDO_MAP, number=assembly.maps[name]))
    assembly.add(_Instruction(0))


def _call(assembly: _Assembly, name: str) -> None:
    if name not in FUNCTIONS:
        raise AssemblyError(f"there is no function {name}")
    assembly.add(_Instruction(_CALL, number=FUNCTIONS[name]))


def _jump_if(assembly: _Assembly, left: str, condition: str, right: str, target: str) -> None:
    from_register, source, number = assembly.operand(right)
    code = _JUMP | _CONDITIONS[condition] | from_register
    assembly.add(_Instruction(code, int(left), source, number=number, target=target))


def _jump(assembly: _Assembly, target: str) -> None:
    assembly.add(_Instruction(_JUMP, target=target))


def _exit(assembly: _Assembly) -> None:
    assembly.add(_Instruction(_EXIT))


_STATEMENTS: tuple[tuple[re.Pattern[str], Callable[..., None]], ...] = tuple(
    (re.compile(pattern), read)
    for pattern, read in (
        (r"(\w+):", _label),
        (rf"{_REGISTER} = map (\w+)", _load_map),
        (rf"{_REGISTER} = {_VALUE}", _move),
        (rf"{_REGISTER} (\+|-|\*|&|\||\^|<<|>>)= {_VALUE}", _calculate),
        (rf"{_REGISTER} = {_PLACE}", _load),
        (rf"{_PLACE} = {_VALUE}", _store),
        (rf"lock {_PLACE} \+= {_REGISTER}", _add_atomically),
        (r"call (\w+)", _call),
        (rf"if {_REGISTER} (s?>=?|s?<=?|==|!=|&) {_VALUE} goto (\w+)", _jump_if),
        (r"goto (\w+)", _jump),
        (r"exit", _exit),
    )
)
