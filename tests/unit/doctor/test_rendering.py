from __future__ import annotations

import json

import pytest
from rich.text import Text

from tests.support.machines import machine
from tests.unit.doctor.test_checks import proxy
from tidegate.doctor.checks import CHECKS, examine
from tidegate.doctor.facts import Facts, Process, dump, load
from tidegate.doctor.findings import Finding, Load, Severity
from tidegate.doctor.rendering import as_json, as_lines
from tidegate.errors import UsageError
from tidegate.text import duration, size


def shown(facts: Facts, width: int = 60) -> list[str]:
    judged = Load(10_000)
    return [line.plain for line in as_lines(facts, judged, examine(facts, judged), width)]


def test_a_report_on_60_columns_breaks_no_command() -> None:
    facts = machine("somaxconn_128", unseen=("descriptors of process 1: " + "x " * 40,))
    assert shown(facts)[3:12] == [
        "WARNING net.core.somaxconn is 128: the backlog of 4,096 is",
        "cut to it",
        "  When many clients connect at once, the kernel drops those",
        "  that do not fit into the queue, and each tries again after",
        "  1, 3 and 7 s. Restart the server after the change.",
        "  sudo sysctl -w net.core.somaxconn=4096",
        "  so that it stays:",
        "  echo 'net.core.somaxconn = 4096' | sudo tee -a /etc/sysctl.d/90-tidegate.conf",
        "  [somaxconn]",
    ]
    assert shown(facts)[-1] == f"1 warning; {len(CHECKS)} checks"


def test_all_but_commands_fits_on_60_columns() -> None:
    facts = machine(
        "kubernetes_96_mib",
        through=proxy(cut=True, refused_head=4096, foreign_status=101, seen_address="127.0.0.1"),
        unseen=("limits of tidegate.service: systemctl does not answer",),
    )
    judged = Load(10_000)
    findings = examine(facts, judged)
    commands = {
        line for found in findings.values() for line in (found.fix, found.keep, found.instead)
    }
    lines = [line.plain for line in as_lines(facts, judged, findings, 60)]
    assert [line for line in lines if len(line) > 60 and line.strip() not in commands] == []
    assert len(findings) >= 5


def test_a_machine_with_nothing_wrong_says_so() -> None:
    assert shown(machine("tuned"))[-1] == f"Nothing is wrong; {len(CHECKS)} checks"


def test_what_could_not_be_seen_is_told() -> None:
    lines = shown(machine("tuned", unseen=("descriptors of process 1: Permission denied",)))
    assert "Not seen" in lines
    assert "  descriptors of process 1: Permission denied" in lines


def test_a_process_and_a_proxy_do_not_steer_the_terminal() -> None:
    facts = machine(
        "debian",
        process=Process(pid=7, name="\x1b[2J", soft=9, hard=9),
        through=proxy(server="\x1b]0;me\x07", page_status=403, page_reason="origin"),
    )
    assert not {"\x1b", "\x07"} & set("".join(shown(facts)))


def test_the_severity_has_a_colour() -> None:
    finding = {"x": Finding(Severity.ERROR, "a", "b")}
    first = next(
        line for line in as_lines(Facts(), Load(1), finding, 60) if line.plain == "ERROR a"
    )
    assert isinstance(first, Text)
    assert [str(span.style) for span in first.spans] == ["bold red"]


def test_json_has_each_finding_worst_first() -> None:
    facts = machine("docker_1024_descriptors", network__somaxconn=128)
    judged = Load(10_000)
    report = json.loads(as_json(facts, judged, examine(facts, judged)))
    assert report["connections"] == 10_000
    assert report["exitCode"] == 2
    assert [(row["id"], row["severity"]) for row in report["findings"]] == [
        ("descriptors", "error"),
        ("somaxconn", "warning"),
    ]
    assert report["findings"][1]["fix"] == "docker run --sysctl net.core.somaxconn=4096 ..."


def test_facts_come_back_from_their_file_as_they_were() -> None:
    facts = machine("tuned", through=proxy())
    assert load(dump(facts)) == facts


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"netwrk": {}}', b'{"memory": {"total": "8 GB"}}', b"\xff", b"[" * 9999]
)
def test_a_file_that_holds_no_facts_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError, match="these are no facts of a machine"):
        load(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1010, "1010 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (5 << 30, "5 GiB"),
        (3 << 40, "3 TiB"),
    ],
)
def test_sizes_are_written_in_their_unit(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (35.04, "35 s"), (119, "119 s"), (7875, "2.19 h"), (432_000, "5 d")],
)
def test_times_are_written_in_their_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
