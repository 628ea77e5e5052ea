"""`tidegate listen` and `tidegate say` against a running server."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.tokens import SECRET, token
from tidegate.cli import main

COMMAND = Path(sys.executable).with_name("tidegate")
SETTINGS: dict[str, Any] = {
    "auth": {"secret": SECRET},
    "rooms": {
        "rules": [
            {"pattern": "secret", "join": "nobody"},
            {"pattern": "*", "history_size": 10, "presence": "members"},
        ]
    },
}
PATIENCE = 30.0

Result = subprocess.CompletedProcess[str]
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    return shared_serve(SETTINGS)


def environment(server: Process | None, user: str = "ann", **more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    if server is not None:
        own |= {"TIDEGATE_URL": server.url, "TIDEGATE_TOKEN": token(user)}
    return {**own, **more}


@pytest.fixture
def tidegate(
    server: Process,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command against the server, to its end, in this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str = "", **more: str) -> Result:
        for name, value in {**environment(server), **more}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main.run(arguments)
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return run


class Listener:
    """A `tidegate listen` that runs."""

    def __init__(self, server: Process, folder: Path, *arguments: str) -> None:
        self._out = folder / "listen.out"
        self._err = folder / "listen.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [COMMAND, "listen", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=folder,
                env=environment(server, "bob"),
            )

    @property
    def out(self) -> list[str]:
        return self._out.read_text().splitlines()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def wait_for(self, *texts: str) -> None:
        def said() -> bool:
            assert self.process.poll() is None or texts[0] in self.err + self._out.read_text()
            return all(text in self.err + self._out.read_text() for text in texts)

        wait_until(said, PATIENCE, f"it says {texts}")


@pytest.fixture
def listen(server: Process, tmp_path: Path) -> Iterator[Callable[..., Listener]]:
    """Starts listeners; all end here."""
    started: list[Listener] = []

    def start(*arguments: str, of: Process = server) -> Listener:
        started.append(Listener(of, tmp_path, *arguments))
        return started[-1]

    yield start
    for listener in started:
        listener.process.kill()
        listener.process.wait()


def test_say_is_heard_by_listen(
    server: Process, tidegate: Run, listen: Callable[..., Listener]
) -> None:
    listener = listen("tea", "news", "--presence", "--limit", "3")
    listener.wait_for("users: bob")
    said = tidegate("say", "tea", "hello \x1b[31m")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("sent, offset 1 of epoch ")
    assert tidegate("say", "news", '{"n": [1, null]}', "--json").returncode == 0
    assert tidegate("say", "tea", "-", stdin="from a pipe\n").returncode == 0
    assert listener.process.wait(PATIENCE) == 0
    messages = [line for line in listener.out if "] * " not in line]
    assert messages == [
        "[tea] ann: hello ?[31m",
        '[news] ann: {"n":[1,null]}',
        "[tea] ann: from a pipe",
    ]
    assert "connected" in listener.err


def test_listen_prints_json_and_history(tidegate: Run) -> None:
    for number in range(4):
        tidegate("say", "kept", str(number), "--json")
    done = tidegate("listen", "kept", "--json", "--history", "3", "--limit", "3")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    messages = [event for event in events if event["event"] == "message"]
    assert [message["data"] for message in messages] == [1, 2, 3]
    assert messages[0]["from"] == "ann"
    assert messages[0]["offset"] == 2
    assert {"event": "state", "state": "open", "error": None, "delay": None} in events
    assert [event["room"] for event in events if event["event"] == "joined"] == ["kept"]


def test_say_to_a_user_says_how_many_got_it(tidegate: Run, listen: Callable[..., Listener]) -> None:
    listen("tea").wait_for("connected")
    assert tidegate("say", "--user", "bob", "psst").stdout == "delivered to 1 connections\n"
    assert tidegate("say", "--user", "nobody", "psst").stdout == "delivered to 0 connections\n"


def test_token_comes_from_a_file_or_from_standard_input(
    server: Process, tidegate: Run, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(token("carl") + "\n")
    assert tidegate("say", "who", "1", "--token-file", "token").returncode == 0
    assert tidegate("say", "who", "2", "--token-file", "-", stdin=token("dora")).returncode == 0
    done = tidegate("listen", "who", "--history", "2", "--limit", "2")
    assert done.stdout.splitlines() == ["carl: 1", "dora: 2"]


def test_ctrl_c_ends_listen(listen: Callable[..., Listener]) -> None:
    listener = listen("tea")
    listener.wait_for("connected")
    listener.process.send_signal(signal.SIGINT)
    assert listener.process.wait(PATIENCE) == 0
    assert "Traceback" not in listener.err


def test_listen_outlives_its_server(serve: Start, listen: Callable[..., Listener]) -> None:
    mortal = serve(SETTINGS)
    listener = listen("tea", of=mortal)
    listener.wait_for("connected")
    mortal.kill()
    listener.wait_for("the connection is lost", "back in")
    listener.process.send_signal(signal.SIGINT)
    assert listener.process.wait(PATIENCE) == 0


def test_listen_that_is_kicked_says_so(
    server: Process, listen: Callable[..., Listener], tidegate: Run
) -> None:
    listener = listen("tea")
    listener.wait_for("connected")
    admin = f"127.0.0.1:{server.admin_port}"
    assert tidegate("kick", "bob", "--yes", "--admin", admin).returncode == 0
    assert listener.process.wait(PATIENCE) == 1
    assert "the server has closed the connection: kicked" in listener.err


@pytest.mark.parametrize("command", [["listen", "tea"], ["say", "tea", "hello"]])
def test_server_that_is_away_is_an_error(command: list[str]) -> None:
    url = f"ws://127.0.0.1:{free_port()}/ws"
    done = subprocess.run(
        [COMMAND, *command, "--url", url],
        env=environment(None),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("tidegate: cannot connect: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["listen"], 2, "ROOM is missing"),
        (["listen", "tea", "--history", "1001"], 2, "--history 1001: must be from 0 to 1,000"),
        (["listen", "tea", "--limit", "0"], 2, "--limit 0: must be at least 1"),
        (["listen", "tea", "--url", "ftp://a"], 2, "--url: as in wss://"),
        (["listen", "tea", "--token-file", "missing"], 2, "--token-file missing: "),
        (["listen", "secret"], 1, "secret: not_allowed"),
        (["listen", "tea", "--url", "{url}/nowhere"], 1, "refuses the connection: not_found"),
        (["say"], 2, "ROOM is missing, or --user"),
        (["say", "tea"], 2, "TEXT is missing"),
        (["say", "tea", "hello", "--user", "bob"], 2, "there is no ROOM with --user"),
        (["say", "tea", "{", "--json"], 2, "TEXT: is no JSON"),
        (["say", "tea", "x", "--timeout", "0"], 2, "--timeout 0: must be"),
        (["say", "tea", "-", "--token-file", "-"], 2, "cannot both be standard input"),
        (["say", "secret", "x"], 1, "not_allowed"),
    ],
    ids=str,
)
def test_wrong_usage_is_told(
    server: Process, tidegate: Run, command: list[str], code: int, says: str
) -> None:
    done = tidegate(*(argument.replace("{url}", server.url) for argument in command))
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_token_is_refused_and_not_shown(tidegate: Run) -> None:
    done = tidegate("listen", "tea", TIDEGATE_TOKEN="a-wrong-token")
    assert done.returncode == 1
    assert "refuses the connection: unauthorized" in done.stderr
    assert "a-wrong-token" not in done.stderr


def test_server_of_the_settings_is_the_default(server: Process, tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "say", "tea", "hello", "--config", server.config],
        env=environment(None, TIDEGATE_TOKEN=token("ann")),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
