"""From bytes to text values: YAML's own faults, variables, and files that are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vipd.config.load import Examined, examine

Read = Callable[..., Examined]
Errors = Callable[..., list[tuple[str, str]]]

SMALLEST = """\
backend: {file: {path: /tmp/store}}
instances:
  - {name: ingress, interface: eth0, addresses: [192.0.2.10]}
"""


@pytest.mark.parametrize(
    ("content", "place", "says"),
    [
        ("", "", "the file is empty"),
        ("# only a remark\n", "", "the file is empty"),
        ("- a\n", "1:1", "must be a mapping"),
        ("text", "1:1", "must be a mapping"),
        ("node: [a\nlog: b\n", "2:4", "expected ',' or ']'"),
        ("node: a\n\tlog: b\n", "2:1", "a tab stands where YAML wants spaces"),
        ("node: a: b\n", "1:8", "not valid YAML"),
        ("node: 'a\n", "2:1", "not valid YAML"),
        ("a: {b: ${C}}\n", "1:9", "a ${VAR} must be quoted"),
        ("node: a\n---\nnode: b\n", "2:1", "but found another document"),
        ("node: *a\n", "1:7", "undefined alias"),
        ("node: a\nlog: \x01\n", "2:6", "U+0001 is not allowed"),
        (b"node: a\nlog: \xe4\n", "2:6", "byte 0xe4 is not UTF-8"),
        ('node: "\\UFFFFFFFF"\n', "", "number out of range"),
        ("{" * 800, "", "nested deeper"),
        ("a: " + "[" * 40 + "]" * 40, "1:19", "nested deeper than 16 levels"),
        ("a: &a [*a]\n", "1:4", "nested deeper than 16 levels"),
        ("# " + "x" * (1 << 20), "", "larger than"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_one_finding(
    errors: Errors, content: str | bytes, place: str, says: str
) -> None:
    """It says where, as far as that is known, and what."""
    ((where, what),) = [(where, f"{where} {what}") for where, what in errors(content)]
    assert where.startswith(place)
    assert says in what


def test_aliases_of_aliases_are_bounded(errors: Errors) -> None:
    """Nine lines may mean a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 50000 values" in str(errors("\n".join(lines)))


@pytest.mark.parametrize("path", ["/nonexistent/vipd.yaml", "/", "", "a\0b"])
def test_a_file_that_cannot_be_read_is_one_finding(path: str) -> None:
    """Whatever the reason is."""
    (finding,) = examine(path).findings
    assert finding.problem.startswith("cannot read the file: ")


@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a directory"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """Nobody waits for somebody to write into a pipe: neither `check` nor a reload."""
    path = tmp_path / "vipd.yaml"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    (finding,) = examine(str(path)).findings
    assert finding.problem == f"cannot read the file: {kind}, not a file"


def test_structure_is_all_that_yaml_decides(read: Read) -> None:
    """Words that YAML 1.1 takes for something else stay words."""
    config = read(SMALLEST + "node: no\n").config
    assert config is not None
    assert config.node == "no"


def test_an_empty_value_is_no_value(read: Read) -> None:
    """A template may leave any optional key empty."""
    examined = read("node:\ntiming: ~\nmetrics: {listen: }\nlog: {level: null}\n" + SMALLEST)
    assert examined.findings == ()


def test_an_empty_value_that_is_needed_is_missing(errors: Errors) -> None:
    """The place is that of the empty value."""
    assert errors(SMALLEST.replace("eth0", "")) == [
        (
            "3:31 instances[0].interface",
            "is missing; allowed: the name of the interface that carries the addresses",
        )
    ]


def test_aliases_work_as_long_as_they_end(read: Read) -> None:
    """Checks that all instances share are written once."""
    config = read(
        "backend: {file: {}}\n"
        "instances:\n"
        "  - {name: a, interface: eth0, addresses: [192.0.2.1], checks: &checks [{name: up, "
        "interface: {interface: eth1}}]}\n"
        "  - {name: b, interface: eth0, addresses: [192.0.2.2], checks: *checks}\n"
    ).config
    assert config is not None
    assert config.instances[0].checks == config.instances[1].checks


@pytest.mark.parametrize(
    ("line", "path", "says"),
    [
        ("log: {level: info}\nlog: {level: info}", "log", "given twice, first on line 4"),
        ("log: {level: info, level: info}", "log.level", "given twice, first on line 4"),
        ("log: {<<: {level: info}}", "log", "merge keys"),
        ("? [a]\n: b", "", "a key must be a single word"),
        ("log: !!python/object:os.system x", "log", "tags like"),
        ("log: !x {level: info}", "log", "tags like !x"),
    ],
)
def test_yaml_that_would_surprise_is_refused(
    errors: Errors, line: str, path: str, says: str
) -> None:
    """Duplicate keys silently win in YAML; merge keys and tags are ways around the schema."""
    ((where, what),) = errors(f"{SMALLEST}{line}\n")
    assert says in f"{where} {what}"
    assert path in where


@pytest.mark.parametrize(
    ("value", "environ", "node"),
    [
        ("${NODE}", {"NODE": "n1"}, "n1"),
        ("a-${NODE}.b", {"NODE": "n1"}, "a-n1.b"),
        ("${NODE:-n2}", {}, "n2"),
        ("${NODE:-n2}", {"NODE": ""}, "n2"),
        ("${NODE:-n2}", {"NODE": "n1"}, "n1"),
        ("${NODE:-}", {}, "node-1"),
        ("${A}${B:-b}", {"A": "a"}, "ab"),
        ("${NODE}", {"NODE": ""}, "node-1"),
        ('"${NODE}"', {"NODE": "${X}"}, None),
    ],
)
def test_variables_stand_in_any_value(
    read: Read, value: str, environ: dict[str, str], node: str | None
) -> None:
    """Unset and empty are the same to a default, as in a shell.

    What a variable contains is not looked at again.
    """
    config = read(f"node: {value}\n{SMALLEST}", environ).config
    assert (config.node if config else None) == node


def test_variables_take_the_type_of_their_place(read: Read) -> None:
    """Numbers and durations too."""
    text = SMALLEST.replace("eth0", 'eth0, priority: "${P}", preempt: "${Q:-no}"')
    config = read(text, {"P": "7"}).config
    assert config is not None
    assert (config.instances[0].priority, config.instances[0].preempt) == (7, False)


@pytest.mark.parametrize("value", ["${NODE}", "${1}", "${NODE", "${NODE-x}", "x${}"])
def test_a_variable_without_a_value_is_an_error(errors: Errors, value: str) -> None:
    """Never an empty text in its place."""
    assert [where for where, _ in errors(f"node: {value}\n{SMALLEST}")] == ["1:7 node"]


def test_places_count_characters_and_ignore_a_byte_order_mark(errors: Errors) -> None:
    """As editors do."""
    text = "# ä\n\ufeff".replace("\ufeff", "") + 'node: "ää"\n' + SMALLEST
    assert errors(b"\xef\xbb\xbf" + text.encode())[0][0] == "2:7 node"


def test_only_the_file_itself_is_read(tmp_path: Path) -> None:
    """A directory in its place is an error, not a search."""
    assert examine(str(tmp_path)).config is None
