"""What was found, and the settings that follow from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidegate.capacity.judging import Bounds
from tidegate.capacity.knee import Knee, Step
from tidegate.capacity.picture import draw
from tidegate.capacity.plan import Outcome
from tidegate.capacity.report import as_json, costs_file, lines, thresholds
from tidegate.core.settings import Settings
from tidegate.core.settings.changes import merged

BOUNDS = Bounds()


def knee(load: float, driver: str = "latency") -> Knee:
    good = Step(load, load, {"p99": 0.02, "generator": 0.3, "memory": 0.4, "cpu": 0.6})
    bad = Step(load * 2, load, {"p99": 0.4, "generator": 0.5, "memory": 0.4, "cpu": 0.9}, driver)
    return Knee(load, driver, (good, bad) if driver else (good,))


def outcome(**loads: float) -> Outcome:
    return Outcome({name: knee(load) for name, load in loads.items()})


@pytest.mark.parametrize(
    ("loads", "safety", "expected"),
    [
        ({}, 0.8, {}),
        ({"connections": 54_321}, 0.8, {"limits.connections": 43_000}),
        ({"connections": 54_321}, 1.0, {"limits.connections": 54_000}),
        ({"connects": 3_000}, 0.8, {"pacing.rate": 1200.0, "pacing.burst": 600}),
        ({"connections": 1, "connects": 1}, 0.1, None),
        ({"connections": 0, "messages": 5_000}, 0.8, {}),
    ],
)
def test_thresholds_are_shares_with_two_digits(
    loads: dict[str, float], safety: float, expected: dict[str, float] | None
) -> None:
    found = thresholds(outcome(**loads), safety)
    if expected is not None:
        assert found == expected
    sections: dict[str, dict[str, object]] = {}
    for name, value in found.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = value
    merged(Settings(), sections)  # they are valid


def test_the_report_says_what_was_found_and_fits_the_terminal() -> None:
    found = outcome(connections=10_000, connects=3_000)
    found.knees["messages"] = knee(9_000, "")
    found.knees["deliveries"] = knee(90_000, "generator")
    text = list(lines(found, BOUNDS, 0.8, 60))
    assert "Connections held: 10,000; beyond it latency is the limit" in text
    assert "Messages a second: at least 9,000" in text
    assert any("the load generator cannot make" in line for line in text)
    assert "  limits.connections = 8000" in text
    assert all(len(line) <= 100 for line in lines(found, BOUNDS, 0.8, 100))


def test_json_has_everything() -> None:
    data = json.loads(json.dumps(as_json(outcome(connections=10_000), BOUNDS, 0.8)))
    assert data["knees"]["connections"]["load"] == 10_000
    assert data["knees"]["connections"]["atLeast"] is False
    assert data["settings"] == {"limits.connections": 8000}
    assert data["complete"] is True


def test_costs_are_written_when_all_are_known() -> None:
    found = outcome()
    names = ("bytes_per_connection", "cpu_per_connect", "cpu_per_message", "cpu_per_delivery")
    for name in names:
        assert costs_file(found) is None
        found.costs[name] = 1.0
    costs = costs_file(found)
    assert costs is not None
    assert (costs["schema"], costs["cpu_per_delivery"]) == (1, 1.0)


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    target = tmp_path / "knee.png"
    draw(outcome(connections=10_000, connects=3_000, messages=9_000), BOUNDS, target)
    assert target.read_bytes().startswith(b"\x89PNG")
