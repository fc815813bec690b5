from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from health.model import (
    Check,
    Fault,
    HttpCheck,
    InterfaceCheck,
    Kind,
    LinkState,
    OnUnknown,
    Result,
    TcpCheck,
    Verdict,
    Weight,
)
from health.problems import problems

HTTP = HttpCheck("http://127.0.0.1:10254/healthz")
HTTPS = HttpCheck("https://127.0.0.1:8443/healthz")


@pytest.mark.parametrize(
    "value",
    [
        Check(
            "a",
            replace(HTTP, headers=(("X-A", "b"),), body="ok"),
            on_fail=Weight(-60),
            on_unknown=OnUnknown.FAIL,
        ),
        Check("b", TcpCheck("::1", 80)),
        Check("c", InterfaceCheck("eth0"), on_fail=Fault()),
        Result(up=None, detail="?"),
        Verdict(fit=None, weight=-3, failing=("a",), detail="d"),
        LinkState("eth0", up=False),
    ],
)
def test_values_travel_between_processes(value: object) -> None:
    """The configuration is validated in one process and used in another."""
    copy = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own bytes
    assert copy == value
    assert hash(copy) == hash(value)


@pytest.mark.parametrize(
    "kind",
    [
        HTTP,
        HTTPS,
        HttpCheck("http://[::1]:80/"),
        HttpCheck("http://user:secret@localhost/x?y=%20z"),
        replace(
            HTTP,
            unix_socket="/run/x.sock",
            status=((200, 200), (301, 302)),
            method="HEAD",
            host="a.example:80",
            body=r"^ok$",
        ),
        replace(HTTPS, ca_file="/etc/ca.pem"),
        replace(HTTPS, verify=False),
        replace(HTTP, headers=(("X-Token", "a\tb c"),)),
        TcpCheck("localhost", 65535),
        InterfaceCheck("bond0.4094"),
    ],
)
def test_usual_checks_have_no_problem(kind: Kind) -> None:
    """What an operator writes passes."""
    assert problems(Check("a", kind)) == []


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (replace(HTTP, url="ftp://a/"), ["http.url"]),
        (replace(HTTP, url="http:///x"), ["http.url"]),
        (replace(HTTP, url="http://a:99999/"), ["http.url"]),
        (replace(HTTP, url="http://a:0/"), ["http.url"]),
        (replace(HTTP, url="http://a/b c"), ["http.url"]),
        (replace(HTTP, url="http://[::1/"), ["http.url"]),
        (replace(HTTP, url="http://bücher.example/"), ["http.url"]),
        (replace(HTTPS, unix_socket="/run/x.sock"), ["http.unix_socket"]),
        (replace(HTTP, unix_socket="run/x.sock"), ["http.unix_socket"]),
        (replace(HTTP, unix_socket="/" + "x" * 107), ["http.unix_socket"]),
        (replace(HTTP, ca_file="/ca.pem"), ["http.ca_file"]),
        (replace(HTTPS, ca_file="/ca.pem", verify=False), ["http.verify"]),
        (replace(HTTP, method="GE T"), ["http.method"]),
        (replace(HTTP, method=""), ["http.method"]),
        (replace(HTTP, host="a\r\nX: y"), ["http.host"]),
        (replace(HTTP, headers=(("X A", "b"), ("X", "a\r\nb"))), ["http.headers", "http.headers"]),
        (replace(HTTP, status=()), ["http.status"]),
        (replace(HTTP, status=((200, 199), (99, 100), (500, 600))), ["http.status"] * 3),
        (replace(HTTP, body="("), ["http.body"]),
        (TcpCheck("", 0), ["tcp.host", "tcp.port"]),
        (TcpCheck("a", 65536), ["tcp.port"]),
        (InterfaceCheck(""), ["interface.interface"]),
        (InterfaceCheck("a" * 16), ["interface.interface"]),
        (InterfaceCheck("eth 0"), ["interface.interface"]),
        (InterfaceCheck(".."), ["interface.interface"]),
    ],
)
def test_what_cannot_work_is_named_by_its_key(kind: Kind, keys: list[str]) -> None:
    """All problems are found, each under the key to change."""
    assert [key for key, _ in problems(Check("a", kind))] == keys


@pytest.mark.parametrize(
    ("check", "key"),
    [
        (Check("a", HTTP, interval=0.04), "interval"),
        (Check("a", HTTP, interval=3601.0), "interval"),
        (Check("a", HTTP, timeout=0.0), "timeout"),
        (Check("a", HTTP, rise=0), "rise"),
        (Check("a", HTTP, fall=101), "fall"),
        (Check("a", HTTP, on_fail=Weight(0)), "on_fail.weight"),
        (Check("a", HTTP, on_fail=Weight(-254)), "on_fail.weight"),
    ],
)
def test_general_limits(check: Check, key: str) -> None:
    """The keys that every kind has."""
    assert [found for found, _ in problems(check)] == [key]
