from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from tests.unit.sim.worlds import SMALL, scenario
from tidegate.errors import UsageError
from tidegate.sim.happenings import simulate
from tidegate.sim.outcome import Outcome, outcome_of
from tidegate.sim.page import page
from tidegate.sim.picture import draw
from tidegate.sim.rendering import columns, course, rows
from tidegate.sim.sweep import Range, Trial, best, sweep

DEATH = SMALL + "[load]\nstay = 0\n[[happenings]]\nat = 5\nkind = 'death'\n"


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    found = scenario('name = "</script><b>"\n' + DEATH)
    return outcome_of(found, simulate(found))


def test_outcome_has_a_value_for_each_second_and_node(outcome: Outcome) -> None:
    series = outcome.series
    assert len(series.admitted) == len(series.cpu_mean) == 60
    assert len(series.cpu) == len(series.connections) == 3
    assert sum(series.admitted) == outcome.admitted == 100
    assert series.connected[-1] == 300
    assert min(min(row) for row in series.cpu) == -1.0  # the dead one


def test_outcome_is_plain_json_and_the_same_when_read(outcome: Outcome) -> None:
    text = msgspec.json.encode(outcome)
    assert msgspec.json.decode(text, type=Outcome) == outcome


def test_rows_have_a_value_for_each_outcome(outcome: Outcome) -> None:
    table = {title: values for title, *values in rows([outcome, outcome])}
    assert table["lost their connection"] == ["100", "100"]
    assert table["cascade"] == ["no", "no"]


def test_course_is_as_wide_as_asked_and_leaves_out_what_never_was(outcome: Outcome) -> None:
    lines = {title: (bars, most) for title, bars, most in course(outcome, 30)}
    assert all(len(bars) == 30 for bars, _ in lines.values())
    assert lines["connected"][1] == "300"
    assert "waiting" not in lines


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [([1, 2, 3], 5, [1, 2, 3]), ([1, 5, 2, 0], 2, [5, 2]), ([], 3, [])],
)
def test_columns_keep_the_highest(values: list[float], width: int, expected: list[float]) -> None:
    assert columns(values, width) == expected


def test_page_has_the_outcome_and_loads_nothing(outcome: Outcome) -> None:
    text = page([outcome, outcome])
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    runs = json.loads(data[1])
    assert [run["outcome"]["name"] for run in runs] == ["</script><b>"] * 2
    assert "http://www.w3.org/2000/svg" in text  # a name, not an address
    assert not re.search(r"(src|href)=|url\(|https?://(?!www\.w3\.org/2000/svg)", text)


def test_picture_is_a_png(outcome: Outcome, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw([outcome, outcome], tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"--png .*No such file"):
        draw([outcome], tmp_path / "none" / "x.png")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pacing.rate", "must be section.key=LOW..HIGH"),
        ("pacing.rate=5", "must be section.key=LOW..HIGH"),
        ("pacing.rate=9..2", "must be section.key=LOW..HIGH"),
        ("pacing.rate=0..2", "must be section.key=LOW..HIGH"),
        ("pacing.rate=1.2.3..4", "must be section.key=LOW..HIGH"),
        ("pacing.speed=1..2", "must be a setting that is a number"),
        ("server.host=1..2", "must be a setting that is a number"),
        ("pacing.enabled=1..2", "must be a setting that is a number"),
    ],
)
def test_range_what_is_none_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        Range.parse(text)


def test_range_whole_settings_get_whole_values() -> None:
    assert Range.parse("pacing.burst=1..100").whole
    found = Range.parse("pacing.rate=0.5..50")
    assert not found.whole
    assert list(found.spread(3, 0.5, 50)) == [0.5, 5.0, 50.0]


def test_sweep_finds_the_rate_that_is_soonest_within_the_cpu() -> None:
    text = SMALL.replace("count = 300", "count = 900") + (
        "[load]\nstay = 0\n[costs]\napplication = 0.02\n"
        "[[happenings]]\nat = 5\nkind = 'blip'\nduration = 0\n"
    )
    told: list[Trial] = []
    trials = sweep(
        scenario(text, {"pacing.burst": 1}), Range.parse("pacing.rate=5..500"), told.append
    )
    found = best(trials)
    assert sorted(trial.value for trial in told) == [trial.value for trial in trials]
    # 20 ms of CPU each: 40 a second take 80 % of a core.
    assert 28 <= found.value <= 41
    assert found.good
    assert not max(trials, key=lambda trial: trial.value).good
