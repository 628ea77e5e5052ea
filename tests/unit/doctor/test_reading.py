"""Reading a machine: what the files of the kernel say, and what is not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidegate.doctor.facts import Conntrack, Group, Listener
from tidegate.doctor.network import read_conntrack, read_network
from tidegate.doctor.reading import read
from tidegate.errors import UsageError

SOCKSTAT = "sockets: used 21\nTCP: inuse 3 orphan 5 tw 7 alloc 3 mem 11\nUDP: inuse 0 mem 0\n"
NETSTAT = (
    "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 3232 1774 1775\n"
    "IpExt: InNoRoutes\nIpExt: 4\n"
)
SNMP = "Ip: Forwarding\nIp: 1\nTcp: RtoAlgorithm PassiveOpens\nTcp: 1 7277886\n"
HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n"
# Two listeners of one address and port, one with a queue of 16; an open connection; another port.
TCP = HEADER + "".join(
    f"   {number}: {local} {remote} {state} {queues} 00:00000000 00000000     0        0 1\n"
    for number, (local, remote, state, queues) in enumerate(
        [
            ("0100007F:1F40", "00000000:0000", "0A", "00000000:00000010"),
            ("0100007F:1F40", "00000000:0000", "0A", "00000000:00000000"),
            ("0100007F:1F40", "0100007F:C001", "01", "00000000:00000063"),
            ("00000000:0016", "00000000:0000", "0A", "00000000:00000000"),
        ]
    )
)
TCP6 = HEADER + (
    "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A "
    "00000000:00000002 00:00000000 00000000     0        0 1\n"
)
LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max open files            1024                 unlimited            files     \n"
)


def files(root: Path, contents: dict[str, str]) -> None:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_network_is_read(tmp_path: Path) -> None:
    files(
        tmp_path,
        {
            "proc/sys/net/core/somaxconn": "4096\n",
            "proc/sys/net/ipv4/tcp_max_syn_backlog": "512\n",
            "proc/sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
            "proc/sys/net/ipv4/tcp_mem": "45402\t60536\t90804\n",
            "proc/sys/net/ipv4/tcp_keepalive_time": "7200\n",
            "proc/sys/net/ipv4/tcp_keepalive_intvl": "75\n",
            "proc/sys/net/ipv4/tcp_keepalive_probes": "9\n",
            "net/sockstat": SOCKSTAT,
            "net/netstat": NETSTAT,
            "net/snmp": SNMP,
            "net/tcp": TCP,
            "net/tcp6": TCP6,
        },
    )
    network = read_network(tmp_path, tmp_path / "net", sysctls=True)
    assert network.somaxconn == 4096
    assert network.syn_backlog == 512
    assert network.ports == (32768, 60999)
    assert network.tcp_mem == (45402, 60536, 90804)
    assert network.keepalive == (7200, 75, 9)
    assert (network.orphans, network.time_wait, network.tcp_pages) == (5, 7, 11)
    assert network.counters == {
        "ListenOverflows": 1774,
        "ListenDrops": 1775,
        "PassiveOpens": 7_277_886,
    }
    assert network.listeners == (
        Listener(port=80, queue=2),
        Listener(port=8000, queue=16, sockets=2),
    )


def test_sysctls_of_another_namespace_are_not_taken_for_its_own(tmp_path: Path) -> None:
    files(tmp_path, {"proc/sys/net/core/somaxconn": "4096", "net/sockstat": SOCKSTAT})
    network = read_network(tmp_path, tmp_path / "net", sysctls=False)
    assert network.somaxconn is None
    assert network.orphans == 5


def test_files_that_are_not_there_or_are_no_numbers_leave_nothing(tmp_path: Path) -> None:
    files(
        tmp_path,
        {
            "proc/sys/net/core/somaxconn": "many",
            "proc/sys/net/ipv4/tcp_mem": "1 2",
            "net/sockstat": "TCP: inuse x",
            "net/netstat": "TcpExt: ListenDrops",
            "net/tcp": HEADER + "rubbish\n",
        },
    )
    network = read_network(tmp_path, tmp_path / "net", sysctls=True)
    assert (network.somaxconn, network.tcp_mem, network.orphans) == (None, None, None)
    assert (network.counters, network.listeners) == ({}, ())


def test_the_table_of_the_firewall_is_read(tmp_path: Path) -> None:
    directory = "proc/sys/net/netfilter/nf_conntrack_"
    files(
        tmp_path,
        {
            f"{directory}count": "63208",
            f"{directory}max": "65536",
            f"{directory}tcp_timeout_established": "432000",
            # A row for each processor, in hexadecimal.
            "net/stat/nf_conntrack": "entries drop early_drop\n0f 0a 01\n0f 10 00\n",
        },
    )
    assert read_conntrack(tmp_path, tmp_path / "net") == Conntrack(
        count=63_208, most=65_536, established_timeout=432_000, dropped=27
    )


def test_without_a_firewall_there_is_no_table(tmp_path: Path) -> None:
    assert read_conntrack(tmp_path, tmp_path / "net") is None


def test_a_process_is_read_and_what_it_hides_is_told(tmp_path: Path) -> None:
    files(
        tmp_path,
        {
            "proc/7/limits": LIMITS,
            "proc/7/status": "Name:\tnginx\nVmRSS:\t    2048 kB\nVmSwap:\t       4 kB\n",
            "proc/7/cgroup": "0::/system.slice/docker-4f1a.scope\n",
            "proc/meminfo": "MemTotal: 8 kB\nMemAvailable: 4 kB\nSwapTotal: 2 kB\nSwapFree: 1 kB\n",
        },
    )
    facts = read(7, tmp_path)
    assert facts.process is not None
    assert (facts.process.name, facts.process.soft, facts.process.hard) == ("nginx", 1024, None)
    assert (facts.process.resident, facts.process.swapped) == (2048 * 1024, 4096)
    assert facts.process.used is None
    assert "descriptors of process 7: No such file or directory" in facts.unseen
    assert facts.container == "docker"
    assert facts.memory is not None
    assert (facts.memory.total, facts.memory.available) == (8192, 4096)
    assert (facts.memory.swap, facts.memory.swapped) == (2048, 1024)


def test_a_process_that_is_not_there_is_a_wrong_argument(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--pid 7: there is no such process"):
        read(7, tmp_path)


V2 = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = (
    "31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
)


def test_the_tightest_limits_of_control_groups_count_in_version_2(tmp_path: Path) -> None:
    top = "sys/fs/cgroup/kubepods/pod1"
    files(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n",
            "proc/self/cgroup": "0::/kubepods/pod1/c1\n",
            "proc/self/mountinfo": V2,
            f"{top}/memory.max": "536870912",
            f"{top}/memory.current": "402653184",
            f"{top}/memory.stat": "inactive_file 134217728\n",
            f"{top}/memory.events": "oom 3\noom_kill 2\n",
            f"{top}/cpu.max": "max 100000",
            f"{top}/c1/memory.max": "max",
            f"{top}/c1/memory.current": "402653184",
            f"{top}/c1/cpu.max": "50000 100000",
            f"{top}/c1/cpu.stat": "nr_periods 100\nnr_throttled 25\n",
        },
    )
    assert read(None, tmp_path).group == Group(
        version=2,
        memory=536_870_912,
        memory_used=268_435_456,
        kills=2,
        cpus=0.5,
        periods=100,
        throttled=25,
    )


def test_limits_of_control_groups_are_read_in_version_1(tmp_path: Path) -> None:
    memory, cpu = "sys/fs/cgroup/memory/docker/c1", "sys/fs/cgroup/cpu/docker/c1"
    files(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n",
            "proc/self/cgroup": "4:memory:/docker/c1\n2:cpu,cpuacct:/docker/c1\n",
            "proc/self/mountinfo": V1,
            f"{memory}/memory.limit_in_bytes": "268435456",
            f"{memory}/memory.usage_in_bytes": "1000",
            f"{memory}/memory.oom_control": "oom_kill_disable 0\noom_kill 1\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            f"{cpu}/cpu.cfs_quota_us": "200000",
            f"{cpu}/cpu.cfs_period_us": "100000",
            f"{cpu}/cpu.stat": "nr_periods 9\nnr_throttled 1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert read(None, tmp_path).group == Group(
        version=1, memory=268_435_456, memory_used=1000, kills=1, cpus=2.0, periods=9, throttled=1
    )


def test_a_container_is_known_by_what_its_engine_leaves(tmp_path: Path) -> None:
    files(tmp_path, {"run/.containerenv": ""})
    assert read(None, tmp_path).container == "podman"


def test_an_empty_machine_can_be_read(tmp_path: Path) -> None:
    facts = read(None, tmp_path)
    assert facts.process is not None
    assert facts.process.pid is None
    assert facts.memory is not None  # asked of the system instead
    assert facts.group == Group()


def test_this_machine_can_be_read() -> None:
    facts = read(os.getpid())
    assert facts.process is not None
    assert facts.process.used
    assert facts.memory is not None
    assert facts.memory.total >= facts.memory.available > 0
