"""What `tidegate rebalance` asks for, and what it says."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from tidegate.errors import UsageError

admin = import_module("tidegate.cli.admin")
rebalance = import_module("tidegate.cli.rebalance")

ALONE = {"nodes": 1, "members": 1, "active": 0, "moved": 0, "left": 0, "complete": True}
EVEN = {**ALONE, "nodes": 3, "members": 3}
MOVING = {**EVEN, "active": 1, "left": 3333}


class Api:
    """The admin API of a server, which answers one thing after the other."""

    def __init__(self, answers: list[dict[str, Any]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []

    def __call__(self, *_: object) -> Api:
        return self

    def ask(self, path: str, method: str = "GET") -> dict[str, Any]:
        self.asked.append((method, path))
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebalance, "_LOOKS_SECONDS", 0.0)


def told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: list[dict[str, Any]],
    **options: Any,
) -> tuple[list[str], list[tuple[str, str]]]:
    api = Api(answers)
    monkeypatch.setattr(admin, "Admin", api)
    rebalance.rebalance(**options)
    return capsys.readouterr().out.splitlines(), api.asked


@pytest.mark.parametrize(
    ("answers", "options", "lines", "path"),
    [
        (
            [ALONE],
            {},
            ["there is one node only that takes connections: nothing to balance"],
            "/rebalance",
        ),
        ([EVEN], {}, ["balanced: no node has more than its share"], "/rebalance"),
        (
            [MOVING],
            {"rate": 2.5, "wait": False},
            ["0 connections moved, 3,333 above the shares of their nodes"],
            "/rebalance?rate=2.5",
        ),
        (
            [{**EVEN, "moved": 12}],
            {"stop": True},
            ["ended: 12 connections were asked to move"],
            "/rebalance?rate=0.0",
        ),
        (
            [{**EVEN, "complete": False}],
            {},
            [
                "not all nodes have answered: some may be of an older version, or away",
                "balanced: no node has more than its share",
            ],
            "/rebalance",
        ),
    ],
)
def test_rebalance_says_what_there_is_to_do(
    answers: list[dict[str, Any]],
    options: dict[str, Any],
    lines: list[str],
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert told(monkeypatch, capsys, answers, **options) == (lines, [("POST", path)])


def test_rebalance_is_watched_until_it_is_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [MOVING, {**MOVING, "moved": 3300, "left": 33}, {**EVEN, "moved": 3333}]
    lines, asked = told(monkeypatch, capsys, answers)
    assert lines == [
        "0 connections moved, 3,333 above the shares of their nodes",
        "3,300 connections moved, 33 above the shares of their nodes",
        "balanced: 3,333 connections moved",
    ]
    assert asked == [("POST", "/rebalance"), *[("GET", "/rebalance")] * 2]


@pytest.mark.parametrize(
    "options", [{"rate": 0.0}, {"rate": -1.0}, {"rate": 10_001.0}, {"rate": 5.0, "stop": True}]
)
def test_rebalance_refuses_rates_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--"):
        rebalance.rebalance(**options)
