from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.sim.worlds import SMALL
from tidegate.cli.main import run

DEATH = SMALL + "[load]\nstay = 0\n[[happenings]]\nat = 5\nkind = 'death'\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "death.toml"
    path.write_text(DEATH)
    return str(path)


def test_simulate_lists_the_ready_scenarios(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "--list"]) == 0
    assert "deploy-at-peak" in capsys.readouterr().out


def test_simulate_shows_a_table_and_the_course(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", file]) == 0
    out = capsys.readouterr().out
    assert "lost their connection" in out
    assert "1 node died" in out
    assert "█" in out


def test_simulate_compares_with_everything_off(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", file, "--compare"]) == 0
    assert "everything off" in capsys.readouterr().out


def test_simulate_compares_two_files_as_json(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.toml"
    other.write_text('name = "other"\n' + DEATH)
    assert run(["simulate", "--compare", file, str(other), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in said] == ["death", "other"]
    assert said[0]["back"] == said[1]["back"] == 100


def test_simulate_settings_and_seed_come_from_options(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "tidegate.toml"
    settings.write_text("[pacing]\nrate = 10\nburst = 1\n")
    arguments = ["simulate", file, "--json", "--seed", "7"]
    assert run([*arguments, "-c", str(settings), "--set", "pacing.burst=2"]) == 0
    slow = json.loads(capsys.readouterr().out)
    assert slow["seed"] == 7
    assert slow["reasons"]["rate_limited"] > 0
    assert slow["back_p99"] > 3


def test_simulate_a_cascade_is_exit_code_1(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "leak.toml"
    path.write_text(
        SMALL.replace("nodes = 3", "nodes = 3\nmemory = '200MB'")
        + "[[happenings]]\nat = 1\nkind = 'leak'\nrate = '20MB'\n"
    )
    assert run(["simulate", str(path)]) == 1
    assert "died of its load (memory)" in capsys.readouterr().out
    assert run(["simulate", file, "--off", "--json"]) == 0


def test_simulate_writes_a_page(file: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run(["simulate", file, "--json", "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")


def test_simulate_sweeps_a_setting(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", file, "--sweep", "pacing.rate=5..50"]) == 0
    assert "brings the clients back soonest" in capsys.readouterr().out
    assert run(["simulate", file, "--sweep", "pacing.rate=5..50", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["setting"] == "pacing.rate"
    assert said["best"] in [trial["value"] for trial in said["trials"]]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "a scenario is needed: a file, or one of"),
        (["none"], "there is no such file, and no such scenario"),
        (["none.toml"], "none.toml: the file cannot be read"),
        (["all-cut", "--set", "pacing.rate"], "must be section.key=value"),
        (["all-cut", "--set", "pacing.rate=fast"], 'pacing.rate = "fast": must be a number'),
        (["all-cut", "flash-crowd", "--sweep", "pacing.rate=1..2"], "--sweep is for one scenario"),
        (["all-cut", "--sweep", "pacing.rate"], "must be section.key=LOW..HIGH"),
        (["all-cut", "-c", "none.toml"], "none.toml: the file cannot be read"),
    ],
)
def test_simulate_a_mistake_is_exit_code_2(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", *arguments]) == 2
    assert problem in capsys.readouterr().err
