"""The costs of this build, and what is calculated from them, beside what was measured."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.unit.estimate.test_bottlenecks import workload
from tidegate.costs import MEASURED
from tidegate.estimate import needs
from tidegate.estimate.workload import Table

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "data" / "recorded.json").read_text()
)
WITHIN = 0.25
SMALL, LARGE = 64, 16_384


def recorded(name: str) -> float:
    """The median of a check of `bench.costs`, or of a row of `bench`."""
    found: list[float] = [run["checks"][name] for run in RECORDED["costs"] if name in run["checks"]]
    found += [run[name] for run in RECORDED["costs"] if name in run]
    found += [run[name] for run in RECORDED["bench"] if name in run]
    return statistics.median(found)


def cores(
    *, rate: float = 0.0, size: int = SMALL, room: int = 1, tls: float = 0.0, connects: float = 0.0
) -> float:
    """What a second costs, without heartbeats."""
    load = workload(
        connections=1, rate=rate, size=size, room=room, tls=tls, connects=connects, heartbeat=1e9
    )
    return sum(line.value for line in needs.processor(load, Table()))


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (cores(rate=1, room=10), "room_of_ten"),
        (cores(rate=1, room=10, tls=1), "room_of_ten_tls"),
        (cores(rate=1, size=LARGE), "room_of_one_large"),
        (cores(rate=1, size=LARGE, tls=1), "room_of_one_large_tls"),
        (cores(rate=1, room=10_000) / 10_000, "room_of_10000"),
        (cores(rate=1, room=10_000, size=LARGE) / 10_000, "room_of_10000_large"),
        (cores(rate=1, room=10_000) / 10_000 * 1e6, "fanout.cpu"),
        (cores(connects=1) * 1e6, "accepts.cpu"),
        (cores(connects=1) * 1e6, "accepts_warm.cpu"),
        (cores(connects=1), "cpu_per_connect"),
    ],
)
def test_processor_time_is_within_a_quarter_of_what_was_measured(found: float, name: str) -> None:
    assert found == pytest.approx(recorded(name), rel=WITHIN)


def mixed(messages: int) -> float:
    """The cores of 400 connections in rooms of 20."""
    load = workload(connections=400, rate=messages / 400, size=200, room=20)
    return sum(term.value for term in needs.processor(load, Table()))


def test_processor_time_of_a_mixed_load_is_within_a_quarter_of_what_was_measured() -> None:
    assert mixed(3_000) == pytest.approx(RECORDED["mixed"]["3000"], rel=WITHIN)


def test_guide_says_how_far_off_the_estimate_is_when_there_is_little_to_do() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "guide" / "estimate.md").read_text()
    for rate in (100, 500, 1_500, 3_000):
        row = f"| {rate:,} | {RECORDED['mixed'][str(rate)]:.2f} | {mixed(rate):.2f} |"
        assert row in page


@pytest.mark.parametrize(
    "name",
    [
        "process_bytes",
        "bytes_per_connection",
        "kernel_bytes_per_connection",
        "tls_bytes_per_connection",
        "cpu_per_heartbeat",
        "cpu_per_tls_handshake",
    ],
)
def test_costs_are_within_a_quarter_of_what_was_measured(name: str) -> None:
    assert getattr(MEASURED, name) == pytest.approx(recorded(name), rel=WITHIN)


def test_memory_is_within_a_quarter_of_what_was_measured() -> None:
    load = workload(connections=10_000, buffers=0)
    lines = {line.name: line.value for line in needs.memory(load, Table(), 1)}
    assert lines["connections"] / 10_000 == pytest.approx(recorded("memory"), rel=WITHIN)
