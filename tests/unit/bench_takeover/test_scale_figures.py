"""What an instance more costs, and how etcd's counters are read."""

from __future__ import annotations

from tests.bench.scale_figures import (
    Failover,
    Figures,
    Node,
    Size,
    asked,
    etcd_counts,
    rates,
    report,
)

METRICS = """
grpc_server_handled_total{grpc_code="OK",grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"} 12
grpc_server_handled_total{grpc_code="Aborted",grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1
grpc_server_handled_total{grpc_code="OK",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0
grpc_server_msg_sent_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 40
etcd_debugging_mvcc_put_total 9
"""


def test_etcds_counters_are_requests_messages_and_keys() -> None:
    """Whatever the outcome of a request: it was one."""
    assert etcd_counts(METRICS) == {"Txn": 13, "Range": 0, "watch messages": 40, "keys written": 9}


def test_rates_leave_out_what_did_not_happen() -> None:
    """And what only follows from requests is no request."""
    found = rates({"Txn": 3, "Range": 4}, {"Txn": 13, "Range": 4, "keys written": 50}, 5.0)
    assert found == {"Txn": 2.0, "keys written": 10.0}
    assert asked(found) == 2.0


def test_the_failover_counts_from_death_and_lease() -> None:
    """The last address decides; the spread is between the first and the last."""
    failover = Failover(first=2.75, last=3.25, lease=3.0)
    assert (failover.beyond, failover.spread) == (0.25, 0.5)


def test_costs_are_differences_between_two_sizes() -> None:
    """What a node costs without instances is no cost of an instance.

    A size that failed has no cost, and says why.
    """
    small = Figures(
        Size("etcd", 3, 1),
        2.0,
        Node(1.0, 30.0, 10.0),
        Node(0.5, 29.0, 10.0),
        {"Txn": 2.0},
        Failover(2.5, 2.75, 3.0),
    )
    large = Figures(
        Size("etcd", 3, 101), 3.0, Node(3.0, 40.0, 10.0), Node(1.5, 34.0, 10.0), {"Txn": 4.0}
    )
    broken = Figures(Size("etcd", 3, 250), problem="no end")
    text = report([small, large, broken])
    assert (
        "| etcd | 3 | 1 | 2.0 | 1.0, 30.0 | 0.5, 29.0 | 10.0 | 2.0 (Txn 2.0) | -0.250 | 0.250 |"
        in text
    )
    assert "| etcd | 3 | 1, 101 | 0.020 | 0.010 | 102 | 51 | 0.020 |" in text
    assert "etcd, 3 nodes, 250 instances: no end" in text
