"""Each check: what it finds, and how bad that is, on a machine with one thing changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machines import machine
from tidegate.core.settings import Settings
from tidegate.doctor.checks import CHECKS, examine
from tidegate.doctor.checks.descriptors import fitting, needed
from tidegate.doctor.facts import (
    Backplane,
    Conntrack,
    Facts,
    Group,
    Listener,
    Memory,
    Process,
    Through,
    Time,
    Unit,
)
from tidegate.doctor.findings import Finding, Load, Severity

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
GIB = 1 << 30
MIB = 1 << 20
URL = "ws://127.0.0.1/ws"


def running(**changes: Any) -> Process:
    return Process(pid=7, name="node", **{"soft": 65_536, "hard": 65_536, "used": 9, **changes})


def proxy(**changes: Any) -> Through:
    """Nothing is wrong with it."""
    usual = {
        "server": "nginx/1.22.1",
        "status": 101,
        "native": True,
        "page_status": 101,
        "foreign_status": 403,
        "foreign_reason": "origin",
        "own_address": "10.0.0.9",
        "seen_address": "10.0.0.9",
        "forged_address": "198.51.100.77",
        "largest_head": 16_000,
        "round_trip": 0.001,
        "held": 35.0,
        "pings": 1,
        "longest_silence": 30.0,
    }
    return Through(url=URL, **{**usual, **changes})


def between(**changes: Any) -> Backplane:
    """Nothing is wrong with it."""
    usual = {
        "server": "valkey",
        "version": "9.1.2",
        "role": "master",
        "memory": 100 * MIB,
        "memory_used": 5 * MIB,
        "policy": "noeviction",
        "appends": True,
        "saves": False,
        "round_trip": 0.0002,
    }
    return Backplane(url="redis://valkey:6379", **{**usual, **changes})


def test_a_backplane_that_is_all_right_has_no_finding() -> None:
    found = examine(machine("debian", backplane=between()), Load(10_000))
    assert "backplane" not in "".join(found)


def test_a_proxy_that_does_all_right_has_no_finding() -> None:
    assert "through" not in "".join(examine(machine("debian", through=proxy()), Load(10_000)))


@pytest.mark.parametrize(
    ("check", "severity", "changes", "load"),
    [
        # File descriptors.
        ("descriptors", ERROR, {"process": running(soft=1024)}, {}),
        ("descriptors", ERROR, {"unit": Unit(name="tidegate.service", soft=1024, hard=4096)}, {}),
        ("descriptors", None, {"process": running(soft=10_032)}, {}),
        ("descriptors", ERROR, {"process": running(soft=10_031)}, {}),
        ("descriptors", None, {"process": running(soft=None)}, {}),
        ("descriptors", None, {"process": None}, {}),
        # A service that is there counts, and not the shell.
        (
            "descriptors",
            None,
            {
                "process": Process(soft=64, hard=64),
                "unit": Unit(name="tidegate.service", hard=524_288),
            },
            {},
        ),
        ("descriptors-used", WARNING, {"process": running(soft=20_000, used=16_000)}, {}),
        ("descriptors-used", ERROR, {"process": running(soft=20_000, used=19_000)}, {}),
        ("descriptors-used", None, {"process": running(soft=20_000, used=15_999)}, {}),
        ("descriptors-used", None, {"process": running(used=None)}, {}),
        ("nr-open", ERROR, {"descriptors__per_process": 4096}, {}),
        ("file-max", ERROR, {"descriptors__most": 11_343}, {}),
        ("file-max", None, {"descriptors__most": 11_344}, {}),
        ("file-max", WARNING, {"descriptors__most": 100_000, "descriptors__used": 80_000}, {}),
        # Memory.
        ("memory", ERROR, {"memory": Memory(total=GIB, available=100 * MIB)}, {}),
        ("memory", None, {"memory": Memory(total=GIB, available=120 * MIB)}, {}),
        ("memory", ERROR, {"memory": Memory(total=GIB, available=120 * MIB)}, {"tls": True}),
        ("memory", ERROR, {"group": Group(memory=128 * MIB, memory_used=30 * MIB)}, {}),
        ("memory", None, {"memory": None}, {}),
        # What the process has already is not needed once more.
        (
            "memory",
            None,
            {
                "group": Group(memory=128 * MIB, memory_used=120 * MIB),
                "process": running(resident=110 * MIB),
            },
            {},
        ),
        ("memory-buffers", WARNING, {"memory": Memory(total=GIB, available=200 * MIB)}, {}),
        ("memory-buffers", None, {"memory": Memory(total=GIB, available=300 * MIB)}, {}),
        ("memory-limit", WARNING, {"group": Group(memory=GIB, memory_used=930 * MIB)}, {}),
        ("memory-limit", ERROR, {"group": Group(memory=GIB, memory_used=1000 * MIB)}, {}),
        ("memory-limit", WARNING, {"group": Group(memory=GIB, memory_used=9, kills=2)}, {}),
        ("swap", WARNING, {"process": running(swapped=32 * MIB)}, {}),
        ("swap", WARNING, {"memory__swapped": 975 * MIB}, {}),
        ("swap", None, {"memory__swapped": 100 * MIB}, {}),
        ("huge-pages", NOTE, {}, {}),
        # Queues.
        ("somaxconn", WARNING, {"network__somaxconn": 4095}, {}),
        ("somaxconn", None, {"network__somaxconn": 128}, {"backlog": 128}),
        ("somaxconn", None, {"network__somaxconn": None}, {}),
        ("syn-backlog", WARNING, {"network__syncookies": 0}, {}),
        ("syn-backlog", WARNING, {"network__syncookies": 2}, {}),
        ("syn-backlog", None, {"network__syncookies": 0, "network__syn_backlog": 4096}, {}),
        (
            "listen-overflows",
            WARNING,
            {"network__counters": {"ListenOverflows": 10, "PassiveOpens": 9000}},
            {},
        ),
        (
            "listen-overflows",
            NOTE,
            {"network__counters": {"ListenOverflows": 10, "PassiveOpens": 90_000}},
            {},
        ),
        ("syn-drops", NOTE, {"network__counters": {"TCPReqQFullDrop": 1}}, {}),
        (
            "accept-queue",
            ERROR,
            {"network__listeners": (Listener(port=80, queue=1), Listener(port=81, queue=2048))},
            {},
        ),
        ("accept-queue", None, {"network__listeners": (Listener(port=81, queue=2047),)}, {}),
        ("abort-on-overflow", WARNING, {"network__abort_on_overflow": 1}, {}),
        ("migrate-req", WARNING, {"network__listeners": (Listener(port=80, sockets=2),)}, {}),
        ("migrate-req", None, {"network__listeners": (Listener(port=80, queue=2),)}, {}),
        # TCP.
        ("port-range", NOTE, {}, {"connections": 28_233}),
        ("port-range", None, {}, {"connections": 28_232}),
        ("port-range", ERROR, {}, {"connections": 28_233, "proxy_here": True}),
        ("tcp-memory", WARNING, {"network__tcp_pages": 50_000}, {}),
        ("tcp-memory", ERROR, {"network__tcp_pages": 60_536}, {}),
        ("tcp-memory", WARNING, {}, {"connections": 60_537}),
        ("tcp-memory", None, {}, {"connections": 60_536}),
        ("tcp-memory-drops", WARNING, {"network__counters": {"TCPAbortOnMemory": 1}}, {}),
        ("tcp-memory-drops", NOTE, {"network__counters": {"TCPMemoryPressures": 1}}, {}),
        ("socket-buffers", WARNING, {"network__rmem": (4096, 8 * MIB, 8 * MIB)}, {}),
        ("socket-buffers", WARNING, {"network__wmem": (131_072, 131_072, 8 * MIB)}, {}),
        ("time-wait", WARNING, {"network__time_wait": 14_000}, {}),
        ("time-wait", NOTE, {"network__counters": {"TCPTimeWaitOverflow": 1}}, {}),
        ("orphans", WARNING, {"network__orphans": 14_000}, {}),
        ("keepalive", WARNING, {}, {"heartbeat": 61.0}),
        ("keepalive", None, {}, {"heartbeat": 60.0}),
        # Firewall.
        ("conntrack", WARNING, {"conntrack": Conntrack(count=80_000, most=100_000)}, {}),
        ("conntrack", ERROR, {"conntrack": Conntrack(count=95_000, most=100_000)}, {}),
        ("conntrack", ERROR, {"conntrack": Conntrack(count=5, most=9_999)}, {}),
        ("conntrack", None, {"conntrack": Conntrack(count=79_999, most=100_000)}, {}),
        ("conntrack-drops", WARNING, {"conntrack": Conntrack(count=1, most=65_536, dropped=1)}, {}),
        (
            "conntrack-timeout",
            ERROR,
            {"conntrack": Conntrack(count=1, most=65_536, established_timeout=30)},
            {},
        ),
        # Processor, clock, randomness.
        ("cpu-throttled", WARNING, {"group": Group(cpus=2, periods=1000, throttled=10)}, {}),
        ("cpu-throttled", ERROR, {"group": Group(cpus=2, periods=1000, throttled=100)}, {}),
        ("cpu-throttled", None, {"group": Group(cpus=2, periods=1000, throttled=9)}, {}),
        ("cpu-limit", WARNING, {"group": Group(cpus=0.5)}, {}),
        ("cpu-limit", None, {"group": Group(cpus=1.0)}, {}),
        ("clock-source", WARNING, {"time": Time(source="hpet", sources=("tsc", "hpet"))}, {}),
        ("clock-source", WARNING, {"time": Time(source="hpet", sources=("hpet",))}, {}),
        ("clock-unsynchronized", WARNING, {"time": Time(synchronized=False)}, {}),
        ("clock-unsynchronized", None, {"time": Time()}, {}),
        ("entropy", WARNING, {"time__entropy": 60, "kernel__release": "5.3.0-18"}, {}),
        ("entropy", None, {"time__entropy": 60, "kernel__release": "5.18.0"}, {}),
        # A proxy.
        ("through-connect", ERROR, {"through": Through(url=URL, error="Connection refused")}, {}),
        ("through-connect", ERROR, {"through": Through(url=URL, status=502, server="nginx")}, {}),
        (
            "through-connect",
            ERROR,
            {"through": Through(url=URL, status=426, reason="upgrade_required")},
            {},
        ),
        (
            "through-connect",
            ERROR,
            {"through": Through(url=URL, status=101, reason="unauthorized")},
            {},
        ),
        ("through-host", ERROR, {"through": proxy(page_status=403, page_reason="origin")}, {}),
        ("through-origin", WARNING, {"through": proxy(foreign_status=101)}, {}),
        ("through-origin", NOTE, {"through": proxy(foreign_status=101, native=False)}, {}),
        ("through-address", ERROR, {"through": proxy(seen_address="198.51.100.77")}, {}),
        ("through-address", ERROR, {"through": proxy(seen_address="127.0.0.1")}, {}),
        ("through-address", None, {"through": proxy(seen_address="8.8.8.8")}, {}),
        ("through-address", None, {"through": proxy(seen_address="")}, {}),
        ("through-idle", ERROR, {"through": proxy(cut=True, longest_silence=10.0)}, {}),
        ("through-idle", WARNING, {"through": proxy(cut=True, close_code=4501)}, {}),
        ("through-idle", ERROR, {"through": proxy(pings=0)}, {}),
        ("through-idle", None, {"through": proxy(pings=0, held=20.0)}, {}),
        ("through-idle", None, {"through": proxy(pings=0, native=False)}, {}),
        ("through-buffering", ERROR, {"through": proxy(round_trip=None)}, {}),
        ("through-buffering", WARNING, {"through": proxy(round_trip=1.5)}, {}),
        ("through-heads", WARNING, {"through": proxy(largest_head=4000, refused_head=8192)}, {}),
        ("through-heads", None, {"through": proxy(refused_head=16_000)}, {}),
        ("through-certificate", WARNING, {"through": proxy(certificate_days=13.0)}, {}),
        # Between the nodes.
        ("backplane-reach", ERROR, {"backplane": between(error="refused")}, {}),
        ("backplane-reach", ERROR, {"backplane": between(role="slave")}, {}),
        ("backplane-version", ERROR, {"backplane": between(server="redis", version="6.0.16")}, {}),
        ("backplane-version", None, {"backplane": between(server="redis", version="6.2.0")}, {}),
        ("backplane-version", None, {"backplane": between(server="redis", version="?")}, {}),
        ("backplane-eviction", WARNING, {"backplane": between(policy="allkeys-lru")}, {}),
        ("backplane-eviction", None, {"backplane": between(policy="")}, {}),
        ("backplane-memory", NOTE, {"backplane": between(memory=None)}, {}),
        ("backplane-memory", ERROR, {"backplane": between(memory_used=95 * MIB)}, {}),
        ("backplane-memory", None, {"backplane": between(memory=None, error="refused")}, {}),
        ("backplane-persistence", NOTE, {"backplane": between(appends=False)}, {}),
        ("backplane-persistence", None, {"backplane": between(appends=False, replicas=1)}, {}),
        ("backplane-persistence", None, {"backplane": between(appends=False, saves=None)}, {}),
        ("backplane-latency", WARNING, {"backplane": between(round_trip=0.06)}, {}),
        ("backplane-latency", None, {"backplane": between(round_trip=None)}, {}),
        ("through-certificate", None, {"through": proxy(certificate_days=15.0)}, {}),
    ],
)
def test_a_check_finds_what_is_wrong(
    check: str, severity: Severity | None, changes: dict[str, Any], load: dict[str, Any]
) -> None:
    facts = machine("debian", **changes)
    finding = CHECKS[check](facts, Load(**{"connections": 10_000, **load}))
    assert (None if finding is None else finding.severity) == severity
    if finding is not None:
        assert finding.title
        assert finding.why
        for line in (finding.fix, finding.keep, finding.instead):
            assert "\n" not in line


def test_every_check_is_tried_here_and_has_words_for_the_reference() -> None:
    (marks,) = (mark.args[1] for mark in test_a_check_finds_what_is_wrong.pytestmark)
    assert {row[0] for row in marks if row[1] is not None} == set(CHECKS)
    assert all(check.__doc__ for check in CHECKS.values())


def test_a_machine_of_which_nothing_is_known_has_no_finding() -> None:
    assert examine(Facts(), Load(10_000)) == {}


@pytest.mark.parametrize("connections", [1, 100, 800, 10_000, 100_000, 1_000_000])
def test_the_descriptors_that_are_needed_are_enough_and_no_more(connections: int) -> None:
    least = needed(connections, exact=True)
    assert fitting(least) >= connections > fitting(least - 1)
    assert fitting(needed(connections)) >= connections


def fix(check: str, facts: Facts, load: Load) -> Finding:
    finding = CHECKS[check](facts, load)
    assert finding is not None
    return finding


def test_a_running_process_is_fixed_by_its_id_and_a_service_by_a_drop_in() -> None:
    facts = machine(
        "debian", process=running(soft=1024), unit=Unit(name="nginx.service", hard=1024), root=True
    )
    finding = fix("descriptors", facts, Load(10_000))
    # Its own limit does: a process that is not ours keeps no share.
    assert finding.fix == "prlimit --pid 7 --nofile=16384:16384"
    assert "LimitNOFILE=16384" in finding.keep
    assert finding.keep.endswith("systemctl restart nginx.service")


def test_limits_of_a_login_are_for_root_too() -> None:
    finding = fix("descriptors", machine("debian", process=Process(soft=64, hard=64)), Load(500))
    assert finding.fix == "sudo prlimit --pid $$ --nofile=1024:1024"
    assert finding.keep == (
        "printf '%s hard nofile 1024\\n' '*' root | "
        "sudo tee /etc/security/limits.d/60-tidegate.conf"
    )


def test_a_proxy_needs_two_descriptors_for_each_client() -> None:
    proxies = machine("debian", process=Process(pid=7, name="nginx", soft=1032, hard=1032))
    assert CHECKS["descriptors"](proxies, Load(500)) is None
    finding = fix("descriptors", proxies, Load(501))
    assert "500 of 501 connections fit" in finding.title
    assert finding.why.startswith("A proxy has two connections for each client")


def test_a_soft_limit_is_raised_without_root_as_far_as_the_hard_one() -> None:
    hard = machine("debian", process=running(soft=1024, hard=1024))
    soft = machine("debian", process=running(soft=1024, hard=65_536))
    assert fix("descriptors", hard, Load(10_000)).fix.startswith("sudo prlimit")
    assert fix("descriptors", soft, Load(10_000)).fix.startswith("prlimit")


def test_a_sysctl_of_a_container_is_given_to_it_at_its_start() -> None:
    lines = {}
    for container in ("docker", "podman", "kubernetes"):
        facts = machine("somaxconn_128", container=container)
        lines[container] = fix("somaxconn", facts, Load(10_000)).fix
    assert lines["docker"] == "docker run --sysctl net.core.somaxconn=4096 ..."
    assert lines["podman"] == "podman run --sysctl net.core.somaxconn=4096 ..."
    assert lines["kubernetes"].startswith(
        'securityContext: {sysctls: [{name: net.core.somaxconn, value: "4096"}]}'
    )


def test_a_container_that_may_change_its_sysctls_does_so() -> None:
    facts = machine("somaxconn_128", container="docker", root=True, writable=True)
    finding = fix("somaxconn", facts, Load(10_000))
    assert finding.fix == "sysctl -w net.core.somaxconn=4096"
    assert finding.keep == "docker run --sysctl net.core.somaxconn=4096 ..."


def test_memory_of_tcp_is_changed_on_the_host() -> None:
    facts = machine("debian", container="docker", root=True, writable=True)
    finding = fix("tcp-memory", facts, Load(100_000))
    assert finding.fix == 'sysctl -w net.ipv4.tcp_mem="150000 200000 300000"  # on the host'


def test_more_connections_than_ports_are_for_a_unix_socket() -> None:
    finding = fix("port-range", machine("debian"), Load(100_000, proxy_here=True))
    assert finding.fix == "tidegate serve --set server.host=unix:/run/tidegate/t.sock"
    assert finding.keep == 'host = "unix:/run/tidegate/t.sock"  # below [server] in tidegate.toml'


def test_the_load_is_that_of_the_settings() -> None:
    settings = Settings.from_mapping(
        {
            "server": {"backlog": 100},
            "limits": {"connections": 500},
            "heartbeat": {"interval": 20.0},
            "proxies": {"trusted": ["127.0.0.1"]},
            "buffers": {"max_bytes": 64 * MIB},
        }
    )
    assert Load.of(settings) == Load(500, 100, 20.0, False, 64 * MIB, True)
    assert Load.of(settings, 9).connections == 9
