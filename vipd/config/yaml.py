"""From the bytes of a configuration file to a tree of text values, with the place of each.

YAML is used for structure only: every scalar stays text and the schema decides what it means, so
that `node: no` is a node called "no" and `${PRIORITY:-100}` may stand where a number is wanted. An
empty value is the same as no key at all. Nothing but a `Findings` with errors comes out of a bad
file: no exception leaves this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import yaml

from election.stores.files import read_file
from vipd.config.findings import NOWHERE, Findings, Path, Position

Tree: TypeAlias = "str | dict[str, Tree] | list[Tree | None]"
"""Text, mappings and lists; None in a list stands for an item that was refused, so that the others
keep their index."""

MAX_BYTES = 1 << 20
"""A configuration of a thousand instances has half of this."""
MAX_VALUES = 50_000
"""Aliases of aliases multiply: nine lines of YAML can mean a billion values."""
MAX_DEPTH = 16
"""The schema has 7 levels; an alias inside its own anchor has no end."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")
_STANDARD_TAG = "tag:yaml.org,2002:"
_IMPLICIT_TAGS = frozenset(
    _STANDARD_TAG + name
    for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
)
"""What a value without a tag of its own may be taken for by YAML 1.1."""


class _GiveUpError(Exception):
    """The file cannot be read any further; the finding is already noted."""


def read_tree(findings: Findings, environ: Mapping[str, str]) -> dict[str, Tree]:
    """Return the tree of `findings.file`.

    Whatever is wrong with it is noted in `findings`, which also learns all places.
    """
    try:
        node = _compose(_text(findings), findings)
        if not isinstance(node, yaml.MappingNode):
            place = _position(node.start_mark)
            findings.error(
                (),
                "the file must be a mapping of keys to values",
                "node, backend, timing, instances, …",
                at=place,
            )
            return {}
        return _Reader(findings, environ).mapping(node, ())
    except _GiveUpError:
        return {}


def _text(findings: Findings) -> str:
    try:
        data = read_file(findings.file, MAX_BYTES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        findings.error((), f"cannot read the file: {reason}")
        raise _GiveUpError from error
    if len(data) > MAX_BYTES:
        findings.error((), f"the file is larger than {MAX_BYTES} bytes")
        raise _GiveUpError
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        findings.error(
            (),
            f"byte 0x{data[error.start]:02x} is not UTF-8: save the file as UTF-8",
            at=_position_after(before),
        )
        raise _GiveUpError from error


def _compose(text: str, findings: Findings) -> yaml.Node:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        findings.error(
            (), _syntax_problem(error, text), at=_position(error.problem_mark or error.context_mark)
        )
    except yaml.reader.ReaderError as error:
        place = _position_after(text[: error.position])
        findings.error(
            (), f"the character {_named(error.character)} is not allowed in YAML", at=place
        )
    except RecursionError:
        findings.error((), f"values are nested deeper than {MAX_DEPTH} levels")
    except (ValueError, OverflowError, yaml.YAMLError):
        # The YAML library turns a number like "\UFFFFFFFF" into a character without looking at its
        # size.
        findings.error((), "not valid YAML: an escape or a directive has a number out of range")
    else:
        if node is not None:
            return node
        findings.error((), "the file is empty", "node, backend, timing, instances, …")
    raise _GiveUpError


def _named(character: object) -> str:
    return f"U+{character:04X}" if isinstance(character, int) else repr(character)


def _syntax_problem(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    around = text[max(mark.index - 1, 0) : mark.index + 1] if mark else ""
    if "'\\t'" in str(error.problem):
        return "not valid YAML: a tab stands where YAML wants spaces"
    if around == "${":
        return "not valid YAML: inside { } and [ ] a ${VAR} must be quoted"
    context = f" ({error.context})" if error.context else ""
    return f"not valid YAML: {error.problem}{context}"


def _position(mark: yaml.Mark | None) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark else NOWHERE


def _position_after(text: str) -> Position:
    return Position(text.count("\n") + 1, len(text) - text.rfind("\n"))


@dataclass(slots=True)
class _Reader:
    """Turns YAML nodes into the tree and notes the place of each."""

    findings: Findings
    environ: Mapping[str, str]
    count: int = 0

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Tree]:
        """Return the mapping without the keys whose value is empty or refused."""
        self.findings.values[path] = _position(node.start_mark)
        tree: dict[str, Tree] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            value = self._value(value_node, (*path, key))
            if value is not None:
                tree[key] = value
        return tree

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        place = _position(node.start_mark)
        if not isinstance(node, yaml.ScalarNode):
            self.findings.error(path, "a key must be a single word", at=place)
            return None
        if node.tag == _STANDARD_TAG + "merge":
            self.findings.error(
                path,
                "merge keys (<<) are not supported",
                "an alias in the place of a whole value",
                at=place,
            )
            return None
        key = str(node.value)
        first = self.findings.keys.get((*path, key))
        if first:
            self.findings.error(
                (*path, key), f"the key is given twice, first on line {first.line}", at=place
            )
            return None
        self.findings.keys[*path, key] = place
        return key

    def _value(self, node: yaml.Node, path: Path) -> Tree | None:
        self.findings.values[path] = _position(node.start_mark)
        self._count_one(path)
        if node.tag not in _IMPLICIT_TAGS:
            self.findings.error(path, f"YAML tags like {node.tag} are not supported")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path) if isinstance(node, yaml.ScalarNode) else None

    def _item(self, node: yaml.Node, path: Path) -> Tree | None:
        value = self._value(node, path)
        if value is None and not self.findings.refused(path):
            self.findings.error(path, "an item of a list must not be empty")
        return value

    def _count_one(self, path: Path) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            self.findings.error(
                path,
                f"the file has more than {MAX_VALUES} values, aliases counted as often as they "
                "are used",
            )
            raise _GiveUpError
        if len(path) > MAX_DEPTH:
            self.findings.error(
                path[:MAX_DEPTH], f"values are nested deeper than {MAX_DEPTH} levels"
            )
            raise _GiveUpError

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> str | None:
        if node.tag == _STANDARD_TAG + "null":
            return None
        text = str(node.value)
        if "${" not in text:
            return text
        problems: list[str] = []
        expanded = _VARIABLE.sub(lambda match: self._variable(match, problems), text)
        for problem in problems:
            self.findings.error(path, problem, "${NAME} or ${NAME:-default}")
        # `group: ${GROUP:-}` is how a template says that the key is not set; a quoted empty text
        # was meant as one.
        return None if problems or (not expanded and node.style is None) else expanded

    def _variable(self, match: re.Match[str], problems: list[str]) -> str:
        name, default = match[1], match[2]
        if name is None:
            problems.append("a ${ does not begin a variable")
            return ""
        value = self.environ.get(name, "")
        if value or default is not None:
            return str(value or default)
        if name not in self.environ:
            problems.append(f"the environment variable {name} is not set and has no default")
        return ""
