"""Signals and bounds."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.capacity.judging import Bounds, Use, judge, use_between
from tidegate.capacity.target import Figures, lag_of, readings

USE = Use(seconds=1.0, cpu=0.5, cpu_seconds=0.5, rss=1e8, lag=0.01, memory=0.5)


def judged(use: dict[str, Any] | None = None, **seen: Any) -> str:
    base: dict[str, Any] = {"p99": 0.01, "failed": 0.0, "generator": 0.2, **seen}
    fields = {name: getattr(USE, name) for name in Use.__dataclass_fields__}
    return judge(Bounds(), Use(**{**fields, **(use or {})}), **base)


@pytest.mark.parametrize(
    ("use", "seen", "driver"),
    [
        ({}, {}, ""),
        ({}, {"p99": 0.2}, "latency"),
        ({"cpu": 0.97}, {}, ""),  # put to use, and in time
        ({"cpu": 0.97}, {"falls_short": True}, "cpu"),
        ({"cpu": 0.97}, {"p99": 0.2}, "cpu"),  # the cause, not what comes of it
        ({"memory": 0.95}, {"p99": 0.2}, "memory"),
        ({}, {"failed": 0.01}, "refusals"),
        ({"lag": 0.5}, {}, "loop lag"),
        ({}, {"falls_short": True}, "rate"),
        ({}, {"p99": 0.2, "generator": 0.95}, "generator"),
        ({}, {"falls_short": True, "generator": 0.95}, "generator"),
        ({"cpu": 0.97}, {"p99": 0.2, "generator": 0.95}, "cpu"),
        ({}, {"generator": 0.99}, ""),  # busy, and in time
        ({"cpu": None, "lag": None}, {"p99": 0.2}, "latency"),
        ({"cpu": None, "lag": None}, {"p99": 0.2, "generator": 0.95}, "generator"),
    ],
)
def test_judge_names_the_signal_that_passed_its_bound(
    use: dict[str, Any], seen: dict[str, Any], driver: str
) -> None:
    assert judged(use, **seen) == driver


def test_use_is_the_difference_of_two_looks() -> None:
    before = Figures(10.0, 5.0, 100.0, {0.01: 10.0, 0.1: 12.0, float("inf"): 12.0})
    after = Figures(12.0, 6.0, 300.0, {0.01: 100.0, 0.1: 112.0, float("inf"): 112.0})
    use = use_between(before, after)
    assert (use.cpu, use.cpu_seconds, use.rss, use.lag) == (0.5, 1.0, 300.0, 0.1)


def test_use_of_what_cannot_be_seen_is_not_known() -> None:
    use = use_between(Figures(1.0), Figures(2.0))
    assert (use.cpu, use.cpu_seconds, use.rss, use.lag) == (None, None, None, None)


def test_an_exposition_is_read() -> None:
    text = (
        "# HELP process_cpu_seconds_total x\nprocess_cpu_seconds_total 1.5\n\n"
        'websocket_event_loop_lag_seconds_bucket{le="0.01"} 7.0\n'
        'websocket_event_loop_lag_seconds_bucket{le="+Inf"} 9.0\nodd line\n'
    )
    found = readings(text)
    assert found["process_cpu_seconds_total"] == 1.5
    assert lag_of(found) == {0.01: 7.0, float("inf"): 9.0}
