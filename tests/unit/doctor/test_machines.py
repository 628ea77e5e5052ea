"""Recorded machines: the doctor finds just what was planted, and its lines are complete."""

from __future__ import annotations

import pytest

from tests.support.machines import MACHINES, machine
from tidegate.doctor.checks import examine
from tidegate.doctor.findings import Load, Severity
from tidegate.doctor.rendering import exit_code

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


@pytest.mark.parametrize(
    ("name", "connections", "found", "code"),
    [
        ("debian", 10_000, {"huge-pages": NOTE}, 0),
        (
            "debian",
            100_000,
            {"tcp-memory": WARNING, "port-range": NOTE, "huge-pages": NOTE},
            1,
        ),
        ("tuned", 10_000, {}, 0),
        ("tuned", 100_000, {"port-range": NOTE}, 0),
        ("docker_1024_descriptors", 10_000, {"descriptors": ERROR}, 2),
        ("docker_1024_descriptors", 800, {}, 0),
        ("kubernetes_96_mib", 10_000, {"memory": ERROR}, 2),
        ("kubernetes_96_mib", 1000, {"memory-buffers": WARNING}, 1),
        ("conntrack_nearly_full", 10_000, {"conntrack": ERROR}, 2),
        ("somaxconn_128", 10_000, {"somaxconn": WARNING}, 1),
    ],
)
def test_a_recorded_machine_has_just_what_was_planted(
    name: str, connections: int, found: dict[str, Severity], code: int
) -> None:
    findings = examine(machine(name), Load(connections))
    assert {key: finding.severity for key, finding in findings.items()} == found
    assert exit_code(findings) == code


@pytest.mark.parametrize(
    ("name", "check", "fix", "keep"),
    [
        (
            "docker_1024_descriptors",
            "descriptors",
            "docker run --ulimit nofile=16384:16384 ...",
            "",
        ),
        (
            "kubernetes_96_mib",
            "memory",
            "resources: {limits: {memory: 296Mi}}  # of the container",
            "",
        ),
        (
            "conntrack_nearly_full",
            "conntrack",
            "sudo sysctl -w net.netfilter.nf_conntrack_max=131072",
            "echo 'net.netfilter.nf_conntrack_max = 131072' | "
            "sudo tee -a /etc/sysctl.d/90-tidegate.conf",
        ),
        (
            "somaxconn_128",
            "somaxconn",
            "sudo sysctl -w net.core.somaxconn=4096",
            "echo 'net.core.somaxconn = 4096' | sudo tee -a /etc/sysctl.d/90-tidegate.conf",
        ),
    ],
)
def test_the_line_that_fixes_it_fits_where_it_runs(
    name: str, check: str, fix: str, keep: str
) -> None:
    finding = examine(machine(name), Load(10_000))[check]
    assert (finding.fix, finding.keep) == (fix, keep)


def test_what_is_worst_comes_first() -> None:
    facts = machine("docker_1024_descriptors", network__somaxconn=128, memory__huge_pages="always")
    assert list(examine(facts, Load(10_000))) == ["descriptors", "somaxconn", "huge-pages"]


def test_every_recorded_machine_is_used_here() -> None:
    assert {path.stem for path in MACHINES.glob("*.json")} == {
        *("debian", "tuned", "docker_1024_descriptors"),
        *("kubernetes_96_mib", "conntrack_nearly_full", "somaxconn_128"),
    }
