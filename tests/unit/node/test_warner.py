"""Warnings that come often."""

from __future__ import annotations

import pytest

from tidegate.node import warner as module
from tidegate.node.warner import Warner


class Clock:
    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    return clock


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.levelname for record in caplog.records} <= {"WARNING"}
    return [record.getMessage() for record in caplog.records]


def test_warner_in_a_flood_logs_one_line_a_second(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    warn = Warner()
    for _ in range(100):
        warn("the sky is falling")
    clock.now += 1
    warn("the sky is falling")
    clock.now += 1
    warn("it has fallen")
    assert lines(caplog) == [
        "the sky is falling",
        "the sky is falling (99 more warnings since)",
        "it has fallen",
    ]


def test_warner_just_within_the_second_logs_nothing_more(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    warn = Warner()
    warn("one")
    clock.now += 0.999
    warn("two")
    assert lines(caplog) == ["one"]
    clock.now += 0.001
    warn("three")
    assert lines(caplog)[1:] == ["three (1 more warnings since)"]


def test_warner_of_another_node_counts_for_itself(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    Warner()("here")
    Warner()("there")
    assert lines(caplog) == ["here", "there"]


def test_warner_with_a_percent_sign_logs_it_as_it_is(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    Warner()("at 100 %s of all")
    assert lines(caplog) == ["at 100 %s of all"]
