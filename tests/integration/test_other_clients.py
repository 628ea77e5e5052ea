"""Clients that are not ours: the examples with `websockets` and with npm's `ws`."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support.cutting import Line
from tests.support.process import ROOT
from tests.support.tokens import SECRET, token

PATIENCE = 60.0
RULES = {"rules": [{"pattern": "*", "history_size": 100, "history_ttl": 300}]}


class Script:
    """A client in a process of its own, that is typed to and read."""

    def __init__(self, command: list[str], user: str | None) -> None:
        environment = {**os.environ, **({"TIDEGATE_TOKEN": token(user)} if user else {})}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def says(self, begin: str) -> str:
        """The next line that begins so; those before it are dropped."""
        seen = []
        end = time.monotonic() + PATIENCE
        while True:
            try:
                seen.append(self.lines.get(timeout=max(0.01, end - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"no {begin!r} in {seen}") from None
            if seen[-1].startswith(begin):
                return seen[-1]

    def type(self, text: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{text}\n")


Run = Callable[..., Script]


@pytest.fixture(params=["websockets", "ws"])
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """Starts the example of the package."""
    if request.param == "websockets":
        command = [sys.executable, "-u", str(ROOT / "examples/client_websockets.py")]
    else:
        request.getfixturevalue("node")  # skips without Node.js
        shutil.copy(ROOT / "examples/client_ws.mjs", tmp_path)
        (tmp_path / "node_modules").symlink_to(ROOT / "tests/js/node_modules")
        command = ["node", str(tmp_path / "client_ws.mjs")]
    started: list[Script] = []

    def run(url: str, room: str, user: str | None = None) -> Script:
        started.append(Script([*command, url, room], user))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        each.process.communicate()


def test_two_clients_talk_and_one_resumes_after_a_cut(script: Run, serve: Start) -> None:
    server = serve({"rooms": RULES, "sessions": {"enabled": True}, "auth": {"secret": SECRET}})
    with Line(server.port) as line:
        ann = script(server.url, "lobby", "ann")
        ann.says("* joined")
        ann.type("before")
        ann.says("ann: before")
        bob = script(server.url.replace(str(server.port), str(line.port)), "lobby", "bob")
        assert bob.says("ann: before")  # from the history
        line.cut()
        bob.says("! again in")
        ann.type("while bob is away")
        ann.says("ann: while bob is away")
        line.restore()
        bob.says("* connected, resumed")
        bob.says("ann: while bob is away")
        bob.type("after")
        ann.says("bob: after")
        bob.says("bob: after")


def test_client_that_waits_is_told_its_position_and_admitted(script: Run, serve: Start) -> None:
    server = serve({"limits": {"connections": 1}, "waiting_room": {"enabled": True, "size": 5}})
    first = script(server.url, "lobby")
    first.says("* joined")
    second = script(server.url, "lobby")
    assert second.says("* waiting") == "* waiting: 1 of 1"
    first.process.kill()
    second.says("* joined")


def test_refused_client_comes_back_when_it_is_told_to(script: Run, serve: Start) -> None:
    server = serve({"limits": {"connections": 1}})
    first = script(server.url, "lobby")
    first.says("* joined")
    second = script(server.url, "lobby")
    second.says("! server_limit")
    refused = time.monotonic()
    delay = float(second.says("! again in").split()[3])
    assert 5 <= delay <= 7.1
    first.process.kill()
    second.says("* joined")
    assert time.monotonic() - refused >= 5 - 0.1


def test_client_that_is_not_wanted_stays_away(script: Run, serve: Start) -> None:
    server = serve({"auth": {"secret": SECRET, "anonymous": False, "first_message": False}})
    client = script(server.url, "lobby")
    assert client.says("! not again") == "! not again: unauthorized"
    assert client.process.wait(PATIENCE) == 0
