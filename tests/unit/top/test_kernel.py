"""The tables of TCP, as the kernel writes them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tidegate.top.kernel import KernelWatch
from tidegate.top.sample import Count

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid inode\n"
NONE = "00000000:0000"

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="addresses are little-endian")


def table(*rows: tuple[str, str, str, str, int]) -> str:
    lines = (
        f"{number:4}: {local} {remote} {state} {queues} 00:00000000 00000000 0 0 {inode} 1\n"
        for number, (local, remote, state, queues, inode) in enumerate(rows)
    )
    return HEADER + "".join(lines)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    net = tmp_path / "proc/net"
    net.mkdir(parents=True)
    (net / "tcp").write_text(
        table(
            ("0100007F:1F40", NONE, "0A", "00000000:00000003", 77),
            ("0100007F:1F40", "0700000A:C001", "01", "00000800:00000005", 1),
            ("0100007F:1F40", "0700000A:C002", "01", "00000000:00000000", 2),
            ("0100007F:1F40", "0800000A:C003", "06", "00000000:00000000", 0),
            # A connection of a client on this machine, and another server.
            ("0700000A:C001", "0100007F:1F40", "01", "00000000:00000000", 3),
            ("00000000:0016", NONE, "0A", "00000000:00000000", 78),
        )
    )
    (net / "tcp6").write_text(
        table(
            ("0" * 32 + ":1F40", "0" * 32 + ":0000", "0A", "00000000:00000000", 79),
            (
                "0000000000000000FFFF00000100007F:1F40",
                "0000000000000000FFFF00000700000A:C004",
                "0C",
                "00000000:00000000",
                0,
            ),
            (
                "B80D0120000000000000000001000000:1F40",
                "B80D0120000000000000000002000000:C005",
                "08",
                "00000001:00000000",
                5,
            ),
        )
    )
    (net / "snmp").write_text("Tcp: PassiveOpens\nTcp: 1000\n")
    (net / "netstat").write_text("TcpExt: ListenDrops\nTcpExt: 10\n")
    fd = tmp_path / "proc/42/fd"
    fd.mkdir(parents=True)
    (tmp_path / "proc/42/comm").write_text("tidegate\n")
    (fd / "3").symlink_to("socket:[77]")
    (fd / "4").symlink_to("/dev/null")
    return tmp_path


def test_a_port_has_its_connections_by_state_and_its_clients(root: Path) -> None:
    seen = KernelWatch(root=root).read()
    assert seen is not None
    port, ssh = seen.ports
    assert (port.port, port.owner) == (8000, "tidegate")
    assert port.states == {"estab": 2, "time-wait": 1, "syn-recv": 1, "close-wait": 1}
    assert (port.queue, port.unread, port.unsent) == (3, 5, 2049)
    assert port.top_addresses[0] == Count("10.0.0.7", 3)
    assert {each.name for each in port.top_addresses} >= {"10.0.0.8", "2001:db8::2"}
    assert port.slowest == [Count("10.0.0.7:49153", 2048), Count("[2001:db8::2]:49157", 1)]
    # The program of the other one belongs to somebody else.
    assert (ssh.port, ssh.owner, ssh.states) == (22, "", {})


def test_one_address_is_counted_once_in_either_spelling(root: Path) -> None:
    seen = KernelWatch(root=root).read()
    assert seen is not None
    names = [each.name for each in seen.ports[0].top_addresses]
    assert len(names) == len(set(names))


def test_only_the_ports_that_are_wanted_are_looked_at(root: Path) -> None:
    seen = KernelWatch([22, 9], root).read()
    assert seen is not None
    assert [port.port for port in seen.ports] == [9, 22]


def test_rates_are_from_one_look_to_the_next(root: Path) -> None:
    watch = KernelWatch(root=root)
    first = watch.read()
    assert first is not None
    assert (first.opens, first.drops) == (None, None)
    (root / "proc/net/snmp").write_text("Tcp: PassiveOpens\nTcp: 1500\n")
    second = watch.read()
    assert second is not None
    assert second.opens is not None
    assert second.opens > 0
    assert second.drops == 0


def test_a_table_that_cannot_be_read_leaves_what_can(root: Path) -> None:
    (root / "proc/net/tcp6").write_text(HEADER + "rubbish\n")
    seen = KernelWatch(root=root).read()
    assert seen is not None
    assert seen.ports[0].states == {"estab": 2, "time-wait": 1}


def test_without_tables_there_is_nothing(tmp_path: Path) -> None:
    assert KernelWatch(root=tmp_path).read() is None
