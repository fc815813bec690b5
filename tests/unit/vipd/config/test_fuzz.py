"""No content of a file is a traceback, and a file with findings that are errors never becomes a
configuration.
"""

from __future__ import annotations

import functools
import json
import pickle
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vipd.config.findings import Path as KeyPath
from vipd.config.load import Surroundings, examine
from vipd.config.schema import LATER, keys_at

EXAMPLE = (Path(__file__).parents[4] / "systemd" / "vipd.yaml").read_bytes()
AROUND = Surroundings(
    {"A": "1", "B": "x\udcff"},
    "node-1",
    lambda names, _seconds: dict.fromkeys(names[:1], frozenset()),
)
MAPPINGS: list[KeyPath] = [
    (),
    ("backend",),
    ("backend", "etcd"),
    ("backend", "kubernetes"),
    ("timing",),
    ("instances", 0),
    ("instances", 0, "announce"),
    ("instances", 0, "checks", 0),
    ("instances", 0, "checks", 0, "http"),
    ("instances", 0, "checks", 0, "tcp"),
    ("log",),
]
KEYS = sorted(
    {key for path in MAPPINGS for key in keys_at(path)}
    | {key for keys in LATER.values() for key in keys}
)
WORDS = [
    *(
        "",
        "null",
        "~",
        "a",
        "link",
        "eth0",
        "192.0.2.10/32",
        "2001:db8::10",
        "192.0.2.0/24",
        "fe80::1%eth0",
        "0",
        "1",
        "255",
        "300",
    ),
    *(
        "3s",
        "250ms",
        "1e9s",
        "9" * 12 + "h",
        "fast",
        "true",
        "no",
        "fault",
        "http://127.0.0.1:1/x",
        "http://[::1",
        "http://192.0.2.10:80",
    ),
    *(
        "http://a:99999999/",
        "https://h:1",
        "127.0.0.1:9477",
        "off",
        "/x",
        "200-299",
        "999",
        "${A}",
        "${A:-x}",
        "${B}",
        "${C}",
        "${",
    ),
    *(
        "<<",
        "*a",
        "&a x",
        "!!int 3",
        "!x y",
        "127.0.0.1:\u0663",
        "\u0663s",
        "12:30",
        "2001-01-01",
        "=",
        "0x1f",
        "-.inf",
    ),
]
PIECES = [
    b": ",
    b"- ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\t",
    b"\n",
    b"${A}",
    b"\\",
    b'"\\UFFFFFFFF"',
    b"&a ",
    b"*a",
    b"!x ",
    b"? ",
    b"<<: ",
    b"---\n",
]


@functools.cache
def scratch() -> Path:
    """Return one file for all examples; a fixture would be shared between them as well."""
    return Path(tempfile.mkdtemp(prefix="vipd-test-")) / "vipd.yaml"


@pytest.fixture(scope="module", autouse=True)
def _clean_up() -> object:
    """Remove the scratch file at the end."""
    yield
    scratch().unlink(missing_ok=True)
    scratch().parent.rmdir()


def look_at(content: bytes) -> None:
    """Examine a file and check what holds for every file."""
    scratch().write_bytes(content)
    examined = examine(str(scratch()), AROUND)
    assert (examined.config is None) == any(not finding.warning for finding in examined.findings)
    assert all(str(finding).isprintable() for finding in examined.findings)
    assert pickle.loads(pickle.dumps(examined.config)) == examined.config  # noqa: S301 - our own bytes


def flow(tree: object) -> str:
    """Write a tree in YAML's flow style, words as they are."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key}: {flow(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(flow, tree)) + "]"
    return str(tree)


scalars = st.one_of(
    st.sampled_from(WORDS), st.text(max_size=12).map(json.dumps), st.text(max_size=8)
)
trees = st.recursive(
    scalars,
    lambda t: st.one_of(
        st.lists(t, max_size=3), st.dictionaries(st.sampled_from(KEYS), t, max_size=4)
    ),
)


def mapping(
    path: KeyPath, **known: st.SearchStrategy[object]
) -> st.SearchStrategy[dict[str, object]]:
    """Return mappings with the keys of one place of the schema, and any value for those that are
    not given.
    """
    return st.fixed_dictionaries({}, optional={key: known.get(key, trees) for key in keys_at(path)})


http = mapping(("instances", 0, "checks", 0, "http"))
tcp = mapping(("instances", 0, "checks", 0, "tcp"))
checks = st.lists(mapping(("instances", 0, "checks", 0), http=http, tcp=tcp), max_size=2)
instances = st.lists(mapping(("instances", 0), checks=checks), max_size=2)
etcd = mapping(("backend", "etcd"))
documents = mapping(
    (), instances=instances, backend=mapping(("backend",), etcd=etcd), timing=mapping(("timing",))
)


@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    )
)
@settings(max_examples=40)
def test_any_bytes(content: bytes) -> None:
    """Whatever was saved under this name."""
    look_at(content)


@given(documents)
@settings(
    max_examples=100,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)
def test_any_value_in_any_place(document: dict[str, object]) -> None:
    """Every key with values of every kind."""
    look_at(flow(document).encode("utf-8", "surrogatepass"))


@given(st.data())
@settings(max_examples=40)
def test_a_good_file_damaged_anywhere(data: st.DataObject) -> None:
    """Cut, pasted and half typed."""
    content = bytearray(EXAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 12))] = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from(PIECES))
        )
    look_at(bytes(content))
