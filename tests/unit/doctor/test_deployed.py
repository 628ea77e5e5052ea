"""What `tidegate deploy` writes is what the doctor asks for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.machines import machine
from tidegate.cli.main import run
from tidegate.doctor.checks import examine
from tidegate.doctor.facts import Conntrack, Facts, Group, Process
from tidegate.doctor.findings import Load

LOADS = [1000, 10_000, 50_000]
MIB = 1 << 20


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The folder with what was written for a target and so many connections."""
    monkeypatch.setenv("TIDEGATE_CONFIG", "/dev/null")

    def write(target: str, connections: int) -> Path:
        folder = tmp_path / f"{target}-{connections}"
        assert run(["deploy", target, "--for", str(connections), "--out", str(folder)]) == 0
        return folder

    return write


def bad(**changes: Any) -> Facts:
    """A machine on which nothing was done yet."""
    usual = {
        "descriptors__per_process": 512,
        "network__somaxconn": 128,
        "network__syncookies": 0,
        "network__syn_backlog": 128,
        "conntrack": Conntrack(count=5, most=512),
        "memory__huge_pages": "madvise",
    }
    return machine("debian", **{**usual, **changes})


@pytest.mark.parametrize("connections", LOADS)
def test_its_kernel_settings_leave_nothing_to_find(deployed: Any, connections: int) -> None:
    load = Load(connections, proxy_here=True)
    before = set(examine(bad(), load))
    assert before >= {"nr-open", "somaxconn", "syn-backlog", "conntrack"}
    (file,) = deployed("sysctl", connections).rglob("*.conf")
    value = dict(re.findall(r"^-?([\w.]+) = (.+)$", file.read_text(), re.MULTILINE))
    first, last = map(int, value["net.ipv4.ip_local_port_range"].split())
    after = examine(
        bad(
            descriptors__per_process=int(value["fs.nr_open"]),
            network__somaxconn=int(value["net.core.somaxconn"]),
            network__syncookies=int(value["net.ipv4.tcp_syncookies"]),
            network__syn_backlog=int(value["net.ipv4.tcp_max_syn_backlog"]),
            network__ports=(first, last),
            conntrack=Conntrack(count=5, most=int(value["net.netfilter.nf_conntrack_max"])),
        ),
        load,
    )
    assert after == {}


@pytest.mark.parametrize("connections", LOADS)
def test_its_containers_leave_nothing_to_find(deployed: Any, connections: int) -> None:
    compose = yaml.safe_load((deployed("docker", connections) / "compose.yml").read_text())
    node, haproxy = compose["services"]["tidegate-1"], compose["services"]["haproxy"]
    limit = node["ulimits"]["nofile"]["hard"]
    facts = bad(
        container="docker",
        descriptors__per_process=1 << 20,
        conntrack=None,
        process=Process(soft=limit, hard=limit),
        network__somaxconn=node["sysctls"]["net.core.somaxconn"],
        network__syncookies=1,
        group=Group(memory=int(node["mem_limit"].removesuffix("m")) * MIB, memory_used=0),
    )
    assert set(examine(facts, Load(connections))) <= {"port-range"}
    limit = haproxy["ulimits"]["nofile"]["soft"]
    proxy = machine("debian", process=Process(pid=1, name="haproxy", soft=limit, hard=limit))
    assert "descriptors" not in examine(proxy, Load(connections))


@pytest.mark.parametrize("connections", LOADS)
def test_its_pods_have_the_memory_that_they_need(deployed: Any, connections: int) -> None:
    text = (deployed("kubernetes", connections) / "kubernetes.yaml").read_text()
    (pod,) = (each for each in yaml.safe_load_all(text) if each and each["kind"] == "Deployment")
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    memory = int(limits["memory"].removesuffix("Mi")) * MIB
    facts = machine("kubernetes_96_mib", group=Group(memory=memory, memory_used=0))
    assert set(examine(facts, Load(connections))) <= {"port-range", "tcp-memory"}
    assert "cpu" not in limits
