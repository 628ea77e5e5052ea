"""`tidegate publish`, `rooms`, `users` and `kick` against a running server."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.process import Process
from tests.support.raw import TEXT, Raw
from tests.support.tokens import SECRET, bearer

COMMAND = Path(sys.executable).with_name("tidegate")
TOKEN = "a-token-of-the-operator"
NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
SETTINGS: dict[str, Any] = {
    "auth": {"secret": SECRET},
    "admin": {"token": TOKEN},
    "rooms": {"rules": [{"pattern": "chat", "history_size": 10, "presence": "members"}]},
}

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]


@pytest.fixture
def server(serve: Start) -> Process:
    return serve(SETTINGS)


@pytest.fixture
def tidegate(server: Process, tmp_path: Path) -> Run:
    """Runs a command against the server, to its end."""

    def run(*arguments: str, stdin: str | int = "") -> Result:
        given: dict[str, Any] = {"stdin": stdin} if isinstance(stdin, int) else {"input": stdin}
        return subprocess.run(
            [COMMAND, *arguments, "--admin", f"127.0.0.1:{server.admin_port}"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "TIDEGATE_ADMIN_TOKEN": TOKEN},
            timeout=30,
            **given,
        )

    return run


def member(server: Process, room: str, user: str) -> Raw:
    raw = server.connect().open(headers=[NATIVE, bearer(user)])
    assert heard(raw)["type"] == "connected"
    raw.send_frame(TEXT, json.dumps({"type": "join", "room": room, "id": 1}))
    assert heard(raw)["type"] == "ack"
    return raw


def heard(raw: Raw) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(raw.message())
    return message


def test_publish_reaches_a_room_a_user_and_everybody(server: Process, tidegate: Run) -> None:
    with member(server, "chat", "ann") as ann:
        done = tidegate("publish", "chat", '{"n": 1}')
        assert done.stdout.startswith("published to 1 members, offset 1 of epoch "), done.stderr
        assert heard(ann)["data"] == {"n": 1}
        assert tidegate("publish", "chat", "-", stdin="[2]").returncode == 0
        assert heard(ann)["data"] == [2]
        assert tidegate("publish", "--user", "ann", "-3").stdout == "delivered to 1 connections\n"
        assert heard(ann)["data"] == -3
        assert tidegate("publish", "--all", "--text", "hi").stdout == "delivered to 1 connections\n"
        assert heard(ann)["data"] == "hi"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "ROOM is missing"),
        (("chat",), "DATA is missing"),
        (("--all",), "DATA is missing"),
        (("--all", "chat", "1"), "there is no ROOM"),
        (("--all", "--user", "ann", "1"), "one of --user and --all"),
        (("chat", "hello"), "--text sends it as a text"),
        (("a\nb", "1"), "control characters are not allowed"),
    ],
)
def test_a_wrong_publish_says_what_is_wrong(
    tidegate: Run, arguments: tuple[str, ...], said: str
) -> None:
    result = tidegate("publish", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def test_rooms_and_users_are_listed_and_shown(server: Process, tidegate: Run) -> None:
    with member(server, "chat", "ann"), member(server, "lobby", "bob"):
        tidegate("publish", "chat", '"a word"')
        rows = [line.split() for line in tidegate("rooms").stdout.splitlines()]
        assert rows[0] == ["ROOM", "MEMBERS"]
        assert sorted(rows[1:]) == [["chat", "1"], ["lobby", "1"]]
        assert tidegate("rooms", "--search", "lob").stdout.splitlines()[1].split() == ["lobby", "1"]
        shown = tidegate("rooms", "chat").stdout
        assert "members: 1\n" in shown
        assert "presence: 1 users\n" in shown
        assert '"a word"' in shown
        shown = tidegate("rooms", "lobby").stdout
        assert "presence: off\n" in shown
        assert "history: off\n" in shown
        assert json.loads(tidegate("rooms", "lobby", "--json").stdout)["history"] is None
        rows = [line.split() for line in tidegate("users").stdout.splitlines()]
        assert rows == [["USER", "CONNECTIONS"], ["ann", "1"], ["bob", "1"]]
        assert "1 of 2 users" in tidegate("users", "--limit", "1").stdout
        assert tidegate("users", "ann").stdout.splitlines()[1].split()[1] == "ann"
        assert json.loads(tidegate("users", "--after", "ann", "--json").stdout)["total"] == 2


def test_rooms_and_users_of_the_fleet_say_on_which_nodes(server: Process, tidegate: Run) -> None:
    def rows(*command: str) -> list[list[str]]:
        done = tidegate(*command, "--fleet")
        assert done.returncode == 0, done.stderr
        return [line.split() for line in done.stdout.splitlines()]

    node = server.get("/nodes", TOKEN)[1]["nodes"][0]["id"]
    with member(server, "chat", "ann"):
        assert rows("users") == [["USER", "CONNECTIONS", "NODES"], ["ann", "1", node, "(1)"]]
        assert rows("rooms") == [["ROOM", "MEMBERS", "NODES"], ["chat", "1", node, "(1)"]]
        titles, ann = rows("users", "ann")
        assert (titles[-1], ann[1], ann[-1]) == ("NODE", "ann", node)
        shown = rows("rooms", "chat")
        assert shown[0] == ["members:", "1"]
        assert shown[2][-1] == node
        assert json.loads(tidegate("rooms", "chat", "--fleet", "--json").stdout)["complete"]


def test_kick_asks_first(server: Process, tidegate: Run) -> None:
    with member(server, "chat", "ann") as ann, member(server, "chat", "bob"):
        refused = tidegate("kick", "ann")
        assert refused.returncode == 2
        assert "--yes" in refused.stderr
        terminal, inside = pty.openpty()
        try:
            os.write(terminal, b"n\n")
            answered = tidegate("kick", "ann", stdin=inside)
        finally:
            os.close(terminal)
            os.close(inside)
        assert answered.returncode == 1
        assert "Close 1 connections (user ann)? [y/N]" in answered.stdout
        assert "nothing was closed" in answered.stdout
        done = tidegate("kick", "ann", "--reason", "enough", "--yes")
        assert (done.returncode, done.stdout) == (0, "closed 1 connections\n"), done.stderr
        assert ann.closed(4500).reason
        assert tidegate("kick", "--yes").returncode == 2
