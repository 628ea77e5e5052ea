from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidegate.cli.main import run
from tidegate.costs import MEASURED

Captured = pytest.CaptureFixture[str]
MACHINE = ["--cores", "4", "--memory", "8GiB", "--bandwidth", "1000", "--descriptors", "65536"]
COSTS = {
    "schema": 1,
    "bytes_per_connection": 1000,
    "cpu_per_connect": 0.001,
    "cpu_per_message": 0.0001,
    "cpu_per_delivery": 0.00001,
    "cpu_per_tls_handshake": None,
    "measured": {"machine": "a small one"},
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("TIDEGATE_CONFIG", "PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def asked(capsys: Captured, *options: str) -> dict[str, Any]:
    assert run(["estimate", *MACHINE, *options, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_estimate_shows_its_arithmetic_and_what_ends_first(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert run(["estimate", *MACHINE, "--for", "50000", "--messages", "0.2", "--room", "20"]) == 0
    said = capsys.readouterr().out
    assert "  connections: 50,000 x 800 B = 38.1 MiB [measured]\n" in said
    assert "  deliveries: 200,000 deliveries/s x 5.5 µs = 1.1 cores [measured]\n" in said
    assert "First to end: one core, at " in said
    assert "TLS state" not in said  # it is zero


@pytest.mark.parametrize("columns", ["60", "100"])
def test_text_fits_into_the_terminal(
    columns: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run(["estimate", *MACHINE, "--for", "9000000", "--tls", "1", "--storm", "60s"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > int(columns)] == []


def test_settings_are_the_defaults(capsys: Captured) -> None:
    found = asked(capsys, "--set", "limits.connections=1234", "--set", "heartbeat.interval=10")
    assert found["load"]["connections"] == 1234
    assert found["load"]["heartbeat"] == 10
    assert found["load"]["tls"] == 0


def test_machine_is_this_one_without_options(capsys: Captured) -> None:
    assert run(["estimate", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["resources"]}
    assert rows["memory"]["hasFrom"] == "here"
    assert rows["memory"]["has"] > 0
    assert rows["bandwidth in"]["hasFrom"] == "assumed"


def test_costs_of_a_file_are_taken_and_named(capsys: Captured, folder: Path) -> None:
    (folder / "costs.json").write_text(json.dumps(COSTS))
    found = asked(capsys, "--costs", "costs.json", "--for", "1000", "--connects", "1", "--tls", "1")
    lines = {
        line["name"]: line
        for row in found["resources"]
        for line in row["lines"]
        if row["name"] in ("memory", "CPU")
    }
    assert lines["connections"]["value"] == 1000 * 1000
    assert lines["connections"]["source"] == "costs.json"
    assert lines["connects"]["value"] == 0.001
    # It was not measured, so it is that of this build.
    assert lines["TLS handshakes"]["value"] == MEASURED.cpu_per_tls_handshake
    assert lines["TLS handshakes"]["source"] == "measured"
    assert run(["estimate", *MACHINE, "--costs", "costs.json"]) == 0
    assert "a small one" in capsys.readouterr().out


def test_costs_of_somebody_else_do_not_steer_the_terminal(capsys: Captured, folder: Path) -> None:
    measured = {"machine": "\x1b[2J a small one"}
    (folder / "costs.json").write_text(json.dumps(COSTS | {"measured": measured}))
    assert run(["estimate", *MACHINE, "--costs", "costs.json"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "machine ?[2J a small one" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--for", "0"], "--for 0: must be a number from 1 to 100,000,000"),
        (["--for", "-5"], "--for -5: must be"),
        (["--messages", "-1"], "--messages -1: must be a number from 0 to 1,000,000"),
        (["--messages", "nan"], "--messages nan: must be"),
        (["--publish", "inf"], "--publish inf: must be"),
        (["--size", "big"], "--size big: must be a number from 0 to 1,073,741,824 bytes"),
        (["--room", "-1"], "--room -1: must be"),
        (["--tls", "50"], "--tls 50: must be a number from 0 to 1"),
        (["--connects", "-1"], "--connects -1: must be"),
        (["--storm", "0"], "--storm 0: must be a number from 1 to 86,400 seconds"),
        (["--cores", "0"], "--cores 0: must be"),
        (["--memory", "8"], "--memory 8: must be a number from 1,048,576 to"),
        (["--bandwidth", "0"], "--bandwidth 0: must be"),
        (["--descriptors", "1"], "--descriptors 1: must be a number from 64"),
        (["--costs", "none.json"], "--costs none.json: No such file or directory"),
    ],
)
def test_wrong_value_is_named_with_what_is_allowed(
    options: list[str], said: str, capsys: Captured
) -> None:
    assert run(["estimate", *options]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema"),
        ({"bytes_per_connection": 0}, "bytes_per_connection"),
        ({"cpu_per_message": -1}, "cpu_per_message"),
        ({"cpu_per_delivery": "fast"}, "cpu_per_delivery"),
    ],
)
def test_costs_that_cannot_be_name_the_field(
    change: dict[str, Any], said: str, capsys: Captured, folder: Path
) -> None:
    (folder / "costs.json").write_text(json.dumps(COSTS | change))
    assert run(["estimate", "--costs", "costs.json"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tidegate: --costs costs.json: ")
    assert said in error


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"{}", b"[" * 100_000])
def test_file_that_holds_no_costs_is_an_error(text: bytes, capsys: Captured, folder: Path) -> None:
    (folder / "costs.json").write_bytes(text)
    assert run(["estimate", "--costs", "costs.json"]) == 2
    assert "tidegate: --costs costs.json: " in capsys.readouterr().err
