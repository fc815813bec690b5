"""What a configuration file means, and that everything wrong with it is said at once, with its
place.
"""

from __future__ import annotations

import ipaddress
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from election.timing import Timing
from health.model import Check, Fault, HttpCheck, InterfaceCheck, OnUnknown, TcpCheck, Weight
from vipd.config.findings import ConfigErrors
from vipd.config.load import Examined, load
from vipd.config.values import (
    Announce,
    Config,
    EtcdBackend,
    Fence,
    FileBackend,
    Gate,
    Instance,
    Log,
    LogFormat,
    LogLevel,
    OnConflict,
)

Read = Callable[..., Examined]
Errors = Callable[..., list[tuple[str, str]]]

SMALLEST = """\
backend: {file: {path: /tmp/store}}
instances:
  - {name: ingress, interface: eth0, addresses: [192.0.2.10]}
"""
LINK = Check("link", InterfaceCheck("eth0"), fall=1)
EXAMPLE = Path(__file__).parents[4] / "systemd" / "vipd.yaml"


def test_a_small_file_gets_every_default(read: Read, file: Path) -> None:
    """Only the backend and one instance must be given."""
    assert read(SMALLEST).config == Config(
        node="node-1",
        backend=FileBackend("/tmp/store"),
        timing=Timing(3.0, 0.6, 0.8),
        profile="default",
        instances=(
            Instance("ingress", "eth0", (ipaddress.ip_interface("192.0.2.10/32"),), checks=(LINK,)),
        ),
        metrics_listen=("127.0.0.1", 9477),
        control_socket="/run/vipd/vipd.sock",
        state_dir="/var/lib/vipd",
        path=str(file),
    )
    assert (
        Instance("a", "b", ()).priority,
        Instance("a", "b", ()).preempt,
        Instance("a", "b", ()).preempt_delay,
    ) == (100, True, 0.0)


FULL = """\
node: n1
backend: {etcd: {endpoints: ["http://10.0.0.1:2379", "http://[2001:db8::1]:2379/"], prefix: /edge}}
timing: {lease_duration: 2.5s, renew_interval: 300ms, request_timeout: 0.4s}
instances:
  - name: ingress
    interface: bond0.12
    addresses: [192.0.2.10/24, 2001:DB8::10]
    priority: 150
    preempt: no
    preempt_delay: 1m
    announce: {burst: 3, interval: 500ms, refresh: 1h}
    on_conflict: take
    checks:
      - name: http
        http: {url: "https://127.0.0.1:1/x", method: HEAD, status: [200-204, 301], body: "o.k", headers: {X-A: "b c"}, host: h,
               ca_file: /ca.pem, verify: true}
        interval: 1s
        timeout: 900ms
        rise: 3
        fall: 4
        on_fail: {weight: -60}
        on_unknown: fail
      - {name: tcp, tcp: {host: localhost, port: 80}, interval: 250ms, on_fail: fault}
      - {name: unix, http: {url: "http://h/", unix_socket: /run/x.sock, status: "200"}}
      - {name: up, interface: {interface: eth1}}
metrics: {listen: "[::1]:9000"}
control: {socket: /tmp/s}
state_dir: /tmp/state
fence: {gate: require}
log: {format: json, level: debug}
"""


def test_every_key_arrives(read: Read) -> None:
    """A file that uses everything says so in the configuration."""
    config = read(FULL).config
    assert config is not None
    http = HttpCheck(
        "https://127.0.0.1:1/x",
        "HEAD",
        ((200, 204), (301, 301)),
        "o.k",
        (("X-A", "b c"),),
        "h",
        "",
        "/ca.pem",
        verify=True,
    )
    checks = (
        Check("link", InterfaceCheck("bond0.12"), fall=1),
        Check("http", http, 1.0, 0.9, 3, 4, Weight(-60), OnUnknown.FAIL),
        Check("tcp", TcpCheck("localhost", 80), 0.25, 0.2, on_fail=Fault()),
        Check("unix", HttpCheck("http://h/", status=((200, 200),), unix_socket="/run/x.sock")),
        Check("up", InterfaceCheck("eth1")),
    )
    addresses = (
        ipaddress.ip_interface("192.0.2.10/32"),
        ipaddress.ip_interface("2001:db8::10/128"),
    )
    announce = Announce(3, 0.5, 3600.0)
    instance = Instance(
        "ingress", "bond0.12", addresses, 150, False, 60.0, announce, OnConflict.TAKE, checks
    )
    assert config.instances == (instance,)
    assert config.backend == EtcdBackend(
        ("http://10.0.0.1:2379", "http://[2001:db8::1]:2379"), "/edge/"
    )
    assert (config.timing, config.profile) == (Timing(2.5, 0.3, 0.4), "")
    assert (config.metrics_listen, config.control_socket, config.state_dir) == (
        ("::1", 9000),
        "/tmp/s",
        "/tmp/state",
    )
    assert (config.log, config.fence) == (Log(LogFormat.JSON, LogLevel.DEBUG), Fence(Gate.REQUIRE))


def test_a_configuration_survives_pickling(read: Read) -> None:
    """The guard keeps it as bytes between two daemons."""
    config = read(FULL).config
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - our own bytes


def test_the_example_is_valid_and_shows_the_defaults(read: Read) -> None:
    """What operators start from must be right; where it names a default, that is the default."""
    config = read(EXAMPLE.read_text()).config
    assert config is not None
    assert config.instances[0].checks[1] == Check(
        "ingress", HttpCheck("http://127.0.0.1:10254/healthz")
    )
    assert config.instances[0].announce == Announce()
    assert config == Config(
        config.node, config.backend, Timing(), config.instances, "default", path=config.path
    )


def test_a_lease_alone_brings_the_other_durations(read: Read) -> None:
    """They keep the proportions of the shortest profile."""
    config = read(SMALLEST + "timing: {lease_duration: 5s}\n").config
    assert config is not None
    assert config.timing == Timing(5.0, 1.0, 1.25)
    # Here a request has to be shorter, or a slow store would leave the VIP nowhere.
    config = read(SMALLEST + "timing: {lease_duration: 2s}\n").config
    assert config is not None
    assert config.timing == Timing(2.0, 0.4, 0.18)


@pytest.mark.parametrize("tenths", [10, 15, 19, 20, 21, 22, 23, 24, 25, 26, 30, 100, 3000])
def test_any_lease_alone_is_accepted(read: Read, tenths: int) -> None:
    """The other durations are chosen so that they hold."""
    assert read(SMALLEST + f"timing: {{lease_duration: {tenths * 100}ms}}\n").config is not None


def test_the_state_directory_of_the_environment_wins(read: Read) -> None:
    """Systemd and containers say where state goes."""
    config = read(SMALLEST + "state_dir: /a\n", {"VIPD_STATE_DIR": "/b"}).config
    assert config is not None
    assert config.state_dir == "/b"
    assert [str(finding.path) for finding in read(SMALLEST, {"VIPD_STATE_DIR": "b"}).findings] == [
        "('state_dir',)"
    ]


def test_metrics_can_be_off(read: Read) -> None:
    """Then nothing listens."""
    config = read(SMALLEST + "metrics: {listen: off}\n").config
    assert config is not None
    assert config.metrics_listen is None


def test_a_host_name_becomes_a_node_name_or_is_asked_about(read: Read) -> None:
    """Linux allows capitals and underscores in it, stores do not."""
    config = read(SMALLEST, host_name="Node_1.example").config
    assert config is not None
    assert config.node == "node-1.example"
    assert [finding.path for finding in read(SMALLEST, host_name="näme").findings] == [("node",)]
    assert read("node: n1\n" + SMALLEST, host_name="näme").findings == ()


MANY_FAULTS = """\
node: N1
backend:
  etcd: {endpoints: [http://10.0.0.1:2379], ca_file: /x}
  file: {path: store}
timing: {profile: quick}
instances:
  - name: ingress
    interface: eth0:1
    addresses: [192.0.2.10/32, 192.0.2.0/24]
    prioritty: 150
    priority: 255
    hooks: {}
    checks:
      - {name: a, http: {url: "http://192.0.2.10/x", status: 200-999}, timeout: 1s}
      - {name: a, exec: [x]}
      - {name: link, tcp: {host: h, port: 70000}, interval: 3}
  - name: ingress
    interface: eth0
    addresses: [192.0.2.10]
preempt: true
preempt: false
"""


def test_all_faults_are_reported_at_once_with_their_places(errors: Errors) -> None:
    """An operator corrects a file once."""
    assert [where for where, _ in errors(MANY_FAULTS)] == [
        "1:7 node",
        "3:3 backend",
        "3:54 backend.etcd.ca_file",
        "4:16 backend.file.path",
        "5:19 timing.profile",
        "8:16 instances[0].interface",
        "9:32 instances[0].addresses[1]",
        "10:5 instances[0].prioritty",
        "11:15 instances[0].priority",
        "12:5 instances[0].hooks",
        "14:31 instances[0].checks[0].http.url",
        "14:62 instances[0].checks[0].http.status",
        "14:81 instances[0].checks[0].timeout",
        "15:16 instances[0].checks[1].name",
        "15:19 instances[0].checks[1].exec",
        "16:16 instances[0].checks[2].name",
        "16:43 instances[0].checks[2].tcp.port",
        "16:61 instances[0].checks[2].interval",
        "17:11 instances[1].name",
        "19:17 instances[1].addresses[0]",
        "20:1 preempt",
        "21:1 preempt",
    ]


def test_load_raises_all_findings(file: Path) -> None:
    """Whoever loads gets a configuration or the reasons why there is none."""
    file.write_text(MANY_FAULTS)
    with pytest.raises(ConfigErrors) as raised:
        load(str(file))
    assert len(raised.value.findings) >= 22
    assert f"{file}:1:7: error: node: " in str(raised.value)


INSTANCE = (
    "backend: {file: {}}\ninstances:\n  - name: ingress\n    interface: eth0\n    "
    "addresses: [192.0.2.10]\n"
)


@pytest.mark.parametrize(
    ("line", "path", "says"),
    [
        ("priority: 0", "priority", "reserved"),
        ("priority: 255", "priority", "RFC 9568"),
        ("priority: 300", "priority", "allowed: 1..254"),
        ("priority: -1", "priority", "allowed: 1..254"),
        ("priority: high", "priority", "not a whole number"),
        ("priority: 1.5", "priority", "not a whole number"),
        ("priority: [1]", "priority", "a list stands where a single value is wanted"),
        ('priority: ""', "priority", "empty"),
        ("preempt: maybe", "preempt", "allowed: true, false"),
        ("preempt_delay: 10", "preempt_delay", "did you mean 10s?"),
        ("preempt_delay: 10 s", "preempt_delay", "250ms, 3s or 1m"),
        ("preempt_delay: -1s", "preempt_delay", "not a duration"),
        ("announce: {interval: 0.4}", "announce.interval", "did you mean 400ms?"),
        ("announce: {interval: 500}", "announce.interval", "did you mean 500ms?"),
        ("preempt_delay: 3h", "preempt_delay", "allowed: 0ms..1h"),
        ("on_conflict: tke", "on_conflict", "did you mean take?"),
        (
            "announce: 5",
            "announce",
            "a mapping of keys is wanted here; allowed: burst, interval, refresh",
        ),
        ("announce: {interval: 1ms}", "announce.interval", "out of range"),
        ("checks: {name: x}", "checks", "a list is wanted here"),
        ("checks: [x]", "checks[0]", "a mapping of keys is wanted here"),
        (
            "checks: [{name: x}]",
            "checks[0]",
            "the check has no kind; allowed: one of http, tcp, interface",
        ),
        ("checks: [{tcp: {host: h, port: 1}}]", "checks[0].name", "is missing"),
        ("checks: [{name: x, tcp: {}}]", "checks[0].tcp.host", "is missing"),
        (
            "checks: [{name: x, tcp: {host: h, port: 1}, interface: {interface: e}}]",
            "checks[0]",
            "has tcp and interface",
        ),
        (
            "checks: [{name: x, tcp: {host: 10.0.0.300, port: 1}}]",
            "checks[0].tcp.host",
            "neither an address nor a host name",
        ),
        (
            "checks: [{name: x, http: {url: 'http://u:secret@h/'}}]",
            "checks[0].http.url",
            "would end in logs",
        ),
        (
            "checks: [{name: x, http: {url: 'ftp://h/'}}]",
            "checks[0].http.url",
            "not an http:// or https:// URL",
        ),
        (
            "checks: [{name: x, http: {url: 'http://h/', body: '('}}]",
            "checks[0].http.body",
            "regular expression",
        ),
        (
            "checks: [{name: x, http: {url: 'http://h/', headers: {A: [secret]}}}]",
            "checks[0].http.headers",
            "one line",
        ),
        (
            "checks: [{name: x, interface: {interface: e}, on_fail: {weight: 0}}]",
            "checks[0].on_fail.weight",
            "not a weight",
        ),
        (
            "checks: [{name: x, interface: {interface: e}, on_fail: {wait: 1}}]",
            "checks[0].on_fail",
            "allowed: fault, or",
        ),
        ("checks: [{name: x, gateway: {}}]", "checks[0].gateway", "not in this release yet"),
        ("hook: {}", "hook", "did you mean hooks (not in this release yet)?"),
        ("webhooks: []", "webhooks", "not in this release yet"),
        ("publish: {}", "publish", "not in this release yet"),
    ],
)
def test_a_fault_in_an_instance_is_explained(
    errors: Errors, line: str, path: str, says: str
) -> None:
    """The finding names the key, says what is wrong and what would be right; a secret is not
    repeated.
    """
    found = {where.partition(" ")[2]: what for where, what in errors(f"{INSTANCE}    {line}\n")}
    assert says in found[f"instances[0].{path}"]
    assert "secret" not in str(found).replace("a secret", "")


@pytest.mark.parametrize(
    "address",
    [
        *(
            "192.0.2",
            "192.0.2.300",
            "x",
            "192.0.2.10/33",
            "192.0.2.0/24",
            "192.0.2.255/24",
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.18",
        ),
        *(
            "::",
            "::1",
            "fe80::1%eth0",
            "ff02::1",
            "::ffff:192.0.2.1",
            "255.255.255.255",
            "2001:db8::/64",
        ),
    ],
)
def test_what_cannot_be_a_virtual_address_is_refused(errors: Errors, address: str) -> None:
    """Typos and addresses with another meaning."""
    text = SMALLEST.replace("[192.0.2.10]", f"['{address}']")
    assert [where for where, _ in errors(text)] == ["3:50 instances[0].addresses[0]"]


@pytest.mark.parametrize("interface", ["eth0.100", "enp0s31f6", "x" * 127, "ä" * 63])
def test_any_name_that_an_interface_may_have_is_taken(read: Read, interface: str) -> None:
    """Alternative names are longer than first ones."""
    found = read(SMALLEST.replace("eth0", f'"{interface}"'))
    assert found.config is not None
    assert found.config.instances[0].interface == interface


@pytest.mark.parametrize(
    "interface", ["", ".", "..", "a/b", "a b", "eth0:1", "x" * 128, "ä" * 64, "a\\x07"]
)
def test_what_the_kernel_would_not_name_an_interface_is_refused(
    errors: Errors, interface: str
) -> None:
    """Better now than at the first bind."""
    text = SMALLEST.replace("eth0", f'"{interface}"')
    assert [where.partition(" ")[2] for where, _ in errors(text)] == ["instances[0].interface"]


@pytest.mark.parametrize(
    ("line", "path", "says"),
    [
        ("kubernetes: {context: x}", "kubernetes", "not in this release yet"),
        ("metrics: {listen: 9477}", "metrics.listen", "not host:port"),
        ("metrics: {listen: 'example.com:1'}", "metrics.listen", "not an address of this host"),
        ("metrics: {listen: '::1:9477'}", "metrics.listen", "allowed: 127.0.0.1:9477, [::1]:9477"),
        ("metrics: {listen: '127.0.0.1:70000'}", "metrics.listen", "1..65535"),
        ("metrics: {listen: '192.0.2.10:1'}", "metrics.listen", "is the virtual address"),
        ("control: {socket: x.sock}", "control.socket", "begins with /"),
        ("control: {socket: /" + "x" * 107 + "}", "control.socket", "at most 107 bytes"),
        ("fence: {gate: on}", "fence.gate", "auto, require, off"),
        ("fence: {gates: auto}", "fence.gates", "did you mean gate?"),
        ("log: {level: loud}", "log.level", "debug, info, warning, error"),
        ("log: json", "log", "a mapping of keys is wanted here; allowed: format, level"),
        ("timing: {lease_duration: 500ms}", "timing.lease_duration", "allowed: 1s..5m"),
        ("timing: {renew_interval: 500ms}", "timing.lease_duration", "is missing"),
        (
            "timing: {profile: fast, renew_interval: 100ms}",
            "timing.renew_interval",
            "a profile is given as well",
        ),
        ("timing: {lease_duration: 3s, renew_interval: 2s}", "timing", "less than two requests"),
        (
            "timing: {lease_duration: 2s, renew_interval: 300ms, request_timeout: 600ms}",
            "timing",
            "nothing would ever be bound",
        ),
        ("instance: []", "instance", "did you mean instances?"),
    ],
)
def test_a_fault_at_the_top_is_explained(errors: Errors, line: str, path: str, says: str) -> None:
    """Likewise for the keys that are not part of an instance."""
    found = {where.partition(" ")[2]: what for where, what in errors(SMALLEST + line + "\n")}
    assert says in found[path]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("backend", "path", "says"),
    [
        ("", "backend", "no backend is given"),
        ("etcd: {}", "backend.etcd.endpoints", "is missing"),
        ("etcd: {endpoints: []}", "backend.etcd.endpoints", "is missing"),
        ("etcd: {endpoints: ['http://h:1/v3']}", "backend.etcd.endpoints[0]", "without a path"),
        ("etcd: {endpoints: ['http://h:0']}", "backend.etcd.endpoints[0]", "port 0"),
        ("etcd: {endpoints: ['http://h:99999']}", "backend.etcd.endpoints[0]", "not a URL"),
        ("etcd: {endpoints: ['http://u:p@h:1']}", "backend.etcd.endpoints[0]", "would end in logs"),
        (
            "etcd: {endpoints: ['h:1']}",
            "backend.etcd.endpoints[0]",
            "allowed: https://host:port or http://host:port",
        ),
        (
            "etcd: {endpoints: ['http://10.0.0:1']}",
            "backend.etcd.endpoints[0]",
            "neither an address nor a host name",
        ),
        ("etcd: {endpoints: ['http://h h:1']}", "backend.etcd.endpoints[0]", "spaces"),
        ("etcd: {endpoints: ['http://h']}", "backend.etcd.endpoints[0]", "no port"),
        (
            "etcd: {endpoints: ['http://h:1', 'http://h:1/']}",
            "backend.etcd.endpoints[1]",
            "given twice",
        ),
        (
            "etcd: {endpoints: ['http://192.0.2.10:1']}",
            "backend.etcd.endpoints[0]",
            "is the virtual address",
        ),
        (
            "etcd: {endpoints: ['http://vip.example:1']}",
            "backend.etcd.endpoints[0]",
            "vip.example resolves to the virtual address",
        ),
        ("etcd: {endpoints: ['http://h:1'], prefix: vipd}", "backend.etcd.prefix", "/vipd/"),
        ("etcd: {endpoints: ['http://h:1'], ca_file: x}", "backend.etcd.ca_file", "begins with /"),
        ("kubernetes: {namespace: A_b}", "backend.kubernetes.namespace", "a DNS label"),
        ("file: {path: relative}", "backend.file.path", "begins with /"),
        ("fil: {}", "backend.fil", "did you mean file?"),
    ],
)
def test_a_fault_in_the_backend_is_explained(
    errors: Errors, backend: str, path: str, says: str
) -> None:
    """And nothing follows from it that is no fault of its own."""
    text = SMALLEST.replace("file: {path: /tmp/store}", backend)
    found = {where.partition(" ")[2]: what for where, what in errors(text)}
    assert says in found.pop(path)
    assert set(found) <= {"backend"}


def test_a_name_that_cannot_be_looked_up_is_only_a_warning(read: Read) -> None:
    """A start while no name server answers must succeed."""
    text = SMALLEST.replace(
        "file: {path: /tmp/store}",
        "etcd: {endpoints: ['http://etcd.invalid:1', 'http://other.example:1']}",
    )
    examined = read(text)
    assert examined.config is not None
    assert [(finding.warning, finding.path) for finding in examined.findings] == [
        (True, ("backend", "etcd", "endpoints", 0))
    ]


def test_timings_that_a_crash_does_not_fit_are_a_warning(read: Read) -> None:
    """They are safe, but the VIP may move."""
    examined = read(
        SMALLEST + "timing: {lease_duration: 1s, renew_interval: 400ms, request_timeout: 250ms}\n"
    )
    assert examined.config is not None
    assert [(finding.warning, finding.path) for finding in examined.findings] == [
        (True, ("timing",))
    ]


@pytest.mark.parametrize(
    ("count", "findings"), [(250, []), (251, [True]), (500, [True]), (501, [False])]
)
def test_more_ipv6_addresses_than_the_kernel_can_refresh_are_refused(
    read: Read, count: int, findings: list[bool]
) -> None:
    """Its work grows with their square, over all instances.

    Some are a warning, too many an error at the first that is too many.
    """
    split = count // 2
    addresses = [f"2001:db8::{number:x}/128" for number in range(1, count + 1)]
    more = f"  - {{name: more, interface: eth0, addresses: {json.dumps(addresses[:split])}}}\n"
    examined = read(SMALLEST.replace("192.0.2.10", ", ".join(addresses[split:])) + more)
    assert [finding.warning for finding in examined.findings] == findings
    assert (examined.config is None) == (False in findings)
    if examined.config is None:
        assert examined.findings[0].path == ("instances", 1, "addresses", 500 - (count - split))


def test_a_finding_cannot_drive_the_terminal_or_forge_a_line(errors: Errors) -> None:
    """What the file contains comes out as escapes."""
    ((_, what),) = errors(SMALLEST + 'node: "\\e[2J\\nerror"\n')
    assert what.startswith(r"'\x1b[2J\nerror' is not a node name")


def test_an_address_is_bound_without_its_network(read: Read) -> None:
    """Whatever prefix length is written; said once for each that has one."""
    text = SMALLEST.replace(
        "192.0.2.10", "192.0.2.10/24, 2001:db8::10/64, 192.0.2.11/32, 192.0.2.12"
    )
    examined = read(text)
    assert examined.config is not None
    written = [str(address) for address in examined.config.instances[0].addresses]
    assert written == ["192.0.2.10/32", "2001:db8::10/128", "192.0.2.11/32", "192.0.2.12/32"]
    assert [(finding.warning, finding.path[-1]) for finding in examined.findings] == [
        (True, 0),
        (True, 1),
    ]
    assert "is bound as 192.0.2.10/32" in examined.findings[0].problem
