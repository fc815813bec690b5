"""The assembler: every form of statement becomes the instruction that the kernel's documentation
says.
"""

from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from announce.errors import AssemblyError
from announce.gate.assembler import assemble

NAMES = {"FOUR": 4, "ALL": 0xFFFFFFFF}
MAPS = {"things": 7}


def words(text: str) -> list[tuple[int, int, int, int, int]]:
    """Return code, destination, source, offset and number of each instruction."""
    found = []
    for code, registers, offset, number in struct.iter_unpack("=BBhi", assemble(text, NAMES, MAPS)):
        low, high = registers & 15, registers >> 4
        to, source = (low, high) if sys.byteorder == "little" else (high, low)
        found.append((code, to, source, offset, number))
    return found


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        # Names as in linux/filter.h and linux/bpf_common.h; codes are BPF_CLASS | BPF_SIZE |
        # BPF_MODE or BPF_OP | BPF_SRC.
        ("r6 = r1", (0xBF, 6, 1, 0, 0)),  # BPF_MOV64_REG
        ("r10 = r0", (0xBF, 10, 0, 0, 0)),
        ("r0 = -1", (0xB7, 0, 0, 0, -1)),  # BPF_MOV64_IMM
        ("r0 = 0x10", (0xB7, 0, 0, 0, 16)),
        ("r0 = ALL", (0xB7, 0, 0, 0, -1)),
        ("r3 += -FOUR", (0x07, 3, 0, 0, -4)),  # BPF_ALU64_IMM
        ("r3 += r4", (0x0F, 3, 4, 0, 0)),  # BPF_ALU64_REG
        ("r3 -= 1", (0x17, 3, 0, 0, 1)),
        ("r3 *= 3", (0x27, 3, 0, 0, 3)),
        ("r3 |= 3", (0x47, 3, 0, 0, 3)),
        ("r3 &= 3", (0x57, 3, 0, 0, 3)),
        ("r3 <<= 3", (0x67, 3, 0, 0, 3)),
        ("r3 >>= 3", (0x77, 3, 0, 0, 3)),
        ("r3 ^= r3", (0xAF, 3, 3, 0, 0)),
        ("r1 = u8[r2]", (0x71, 1, 2, 0, 0)),  # BPF_LDX_MEM
        ("r1 = u16[r2 + 12]", (0x69, 1, 2, 12, 0)),
        ("r1 = u32[r2 - FOUR]", (0x61, 1, 2, -4, 0)),
        ("r1 = u64[r10 - 24 + FOUR]", (0x79, 1, 10, -20, 0)),
        ("u8[r10 - 1] = r3", (0x73, 10, 3, -1, 0)),  # BPF_STX_MEM
        ("u64[r10 - 8] = r3", (0x7B, 10, 3, -8, 0)),
        ("u32[r10 - 4] = 5", (0x62, 10, 0, -4, 5)),  # BPF_ST_MEM
        ("u16[r10 - 4] = 5", (0x6A, 10, 0, -4, 5)),
        ("lock u64[r8 + 8] += r1", (0xDB, 8, 1, 8, 0)),  # BPF_ATOMIC_OP, BPF_ADD
        ("lock u32[r8] += r1", (0xC3, 8, 1, 0, 0)),
        ("call map_lookup_elem", (0x85, 0, 0, 0, 1)),  # BPF_EMIT_CALL
        ("call skb_load_bytes", (0x85, 0, 0, 0, 26)),
        ("call ktime_get_boot_ns", (0x85, 0, 0, 0, 125)),
        ("exit", (0x95, 0, 0, 0, 0)),  # BPF_EXIT_INSN
    ],
)
def test_a_statement_is_one_instruction(
    statement: str, expected: tuple[int, int, int, int, int]
) -> None:
    """Each form, with numbers, names, signs and the first and last register."""
    assert words(statement) == [expected]


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("==", 0x15),
        (">", 0x25),
        (">=", 0x35),
        ("&", 0x45),
        ("!=", 0x55),
        ("s>", 0x65),
        ("s>=", 0x75),
        ("<", 0xA5),
        ("<=", 0xB5),
        ("s<", 0xC5),
        ("s<=", 0xD5),
    ],
)
def test_a_condition_compares_with_a_number_or_a_register(condition: str, code: int) -> None:
    """BPF_JMP_IMM and BPF_JMP_REG."""
    assert words(f"if r1 {condition} FOUR goto end\nend:\nexit")[0] == (code, 1, 0, 0, 4)
    assert words(f"if r1 {condition} r9 goto end\nend:\nexit")[0] == (code | 8, 1, 9, 0, 0)


def test_a_jump_counts_from_the_next_instruction() -> None:
    """Forward, backward, to itself, and over a map, which takes two."""
    text = """
        again:
            goto end            ; over four
            if r1 == 0 goto again
            r1 = map things
            goto again
        end: ; nothing here
            exit
    """
    assert [(code, offset) for code, _, _, offset, _ in words(text)] == [
        (5, 4),
        (0x15, -2),
        (0x18, 0),
        (0, 0),
        (5, -5),
        (0x95, 0),
    ]


def test_a_map_takes_two_instructions() -> None:
    """BPF_LD_MAP_FD: a load of 64 bits whose source says that the number is a descriptor."""
    assert words("r1 = map things") == [(0x18, 1, 1, 0, 7), (0, 0, 0, 0, 0)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("\nr1 := 2", "line 2: this is no statement: r1 := 2"),
        ("r11 = 2", "line 1: this is no statement"),
        ("r1 = NONE", "line 1: NONE is neither"),
        ("r1 = 0x1ffffffff", "line 1: 0x1ffffffff is neither"),
        ("r1 = u32[r2 + 40000]", "line 1: 40000 does not fit into 16 bits"),
        ("r1 = map nothing", "line 1: there is no map nothing"),
        ("call nobody", "line 1: there is no function nobody"),
        ("lock u16[r1] += r2", "line 1: nothing adds to a u16 atomically"),
        ("goto nowhere", "there is no label nowhere"),
        ("here:\nhere:", "line 2: there are two labels here"),
    ],
)
def test_what_is_no_program_is_refused(text: str, complaint: str) -> None:
    """With the line and the word that is wrong."""
    with pytest.raises(AssemblyError, match=complaint.replace("[", r"\[")):
        assemble(text, NAMES, MAPS)


@given(st.integers(-(1 << 31), (1 << 32) - 1))
def test_a_number_keeps_its_32_bits(number: int) -> None:
    """Signed or unsigned, the bits are the same."""
    assert words(f"r0 = {number}")[0][4] & 0xFFFFFFFF == number & 0xFFFFFFFF
