"""`tidegate config apply`, against a server that runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.net import free_port
from tests.support.process import Process, to_toml
from tidegate.cli.main import run

TOKEN = "a-token-of-the-operator"

Apply = Callable[..., int]


@pytest.fixture(scope="module")
def server(shared_serve: Callable[..., Process]) -> Process:
    return shared_serve(
        {
            "admin": {"token": TOKEN},
            "limits": {"per_user": 50},
            "shedding": {"warning": 0.8},
        }
    )


@pytest.fixture
def apply(server: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apply:
    """Runs the command with a file of these settings; returns the exit code."""
    monkeypatch.delenv("TIDEGATE_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    def apply(settings: Any, *options: str) -> int:
        Path("tidegate.toml").write_text(to_toml(settings))
        return run(["config", "apply", "tidegate.toml", *options])

    return apply


def here(process: Process, **sections: Any) -> dict[str, Any]:
    """Settings that say where the server is."""
    return {"admin": {"port": process.admin_port, "token": TOKEN}, **sections}


def value(server: Process, name: str) -> Any:
    status, body = server.get("/settings", TOKEN)
    assert status == 200
    return body["settings"][name]["value"]


def test_live_settings_are_applied_and_shown(
    server: Process, apply: Apply, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = {"per_ip": 5, "per_user": 50}
    assert apply(here(server, limits=limits, messages={"per_second": 7})) == 0
    assert capsys.readouterr().out == (
        "applied limits.per_ip = 5\napplied messages.per_second = 7.0\n"
    )
    assert value(server, "limits.per_ip") == 5
    assert value(server, "messages.per_second") == 7
    assert apply(here(server, limits=limits)) == 0
    assert capsys.readouterr().out == "nothing to change\n"


def test_what_needs_a_restart_is_named_and_exits_with_1(
    server: Process, apply: Apply, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(here(server, server={"backlog": 9}, limits={"per_ip": 6})) == 1
    assert capsys.readouterr().out == (
        "applied limits.per_ip = 6\nneeds a restart: server.backlog\n"
    )
    assert value(server, "limits.per_ip") == 6
    assert value(server, "server.backlog") == 4096


def test_a_wrong_setting_is_named_with_its_line_and_exits_with_2(
    server: Process, apply: Apply, capsys: pytest.CaptureFixture[str]
) -> None:
    before = value(server, "limits.per_ip")
    assert apply({"limits": {"per_ip": 9, "per_user": -1}}) == 2
    assert "limits.per_user = -1 (tidegate.toml:3): must be" in capsys.readouterr().err
    assert value(server, "limits.per_ip") == before


def test_what_the_server_finds_wrong_exits_with_2(
    server: Process, apply: Apply, capsys: pytest.CaptureFixture[str]
) -> None:
    # Right by itself, but not beside what the server has.
    assert apply(here(server, limits={"per_ip": 9}, shedding={"critical": 0.75})) == 2
    said = capsys.readouterr().err
    assert "answered 400: shedding.critical = 0.75: must be above shedding.warning" in said
    assert value(server, "limits.per_ip") != 9


def test_a_url_says_where_the_server_is(
    server: Process, apply: Apply, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{server.admin_port}"
    assert apply({"admin": {"port": 1, "token": TOKEN}}, "--admin", url) == 1
    assert capsys.readouterr().out == "needs a restart: admin.port\n"


def test_the_environment_is_not_applied_but_says_where_the_server_is(
    server: Process,
    apply: Apply,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TIDEGATE_ADMIN_PORT", str(server.admin_port))
    monkeypatch.setenv("TIDEGATE_ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("TIDEGATE_LIMITS_PER_ROOM", "3")
    assert apply({"limits": {"per_ip": 8}}) == 0
    assert capsys.readouterr().out == "applied limits.per_ip = 8\n"
    assert value(server, "limits.per_room") == 10_000


def test_the_file_of_the_environment_says_where_the_server_is(
    server: Process,
    apply: Apply,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("server.toml").write_text(to_toml(here(server, limits={"per_ip": 99})))
    monkeypatch.setenv("TIDEGATE_CONFIG", "server.toml")
    assert apply({"limits": {"per_ip": 7}}) == 0
    assert value(server, "limits.per_ip") == 7


@pytest.mark.parametrize(
    ("token", "there", "said"),
    [
        ("another-token-than-it-has", True, "answered 401"),
        (TOKEN, False, "does not answer"),
    ],
)
def test_a_server_that_cannot_be_asked_exits_with_1(
    server: Process,
    apply: Apply,
    capsys: pytest.CaptureFixture[str],
    token: str,
    there: bool,
    said: str,
) -> None:
    admin = {"port": server.admin_port if there else free_port(), "token": token}
    assert apply({"admin": admin, "limits": {"per_ip": 1}}) == 1
    assert said in capsys.readouterr().err
    assert value(server, "limits.per_ip") != 1


def test_a_file_that_is_not_there_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "apply", "/no/such/file.toml"]) == 2
    assert "cannot be read" in capsys.readouterr().err
