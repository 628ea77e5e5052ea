"""`tidegate top` as its users see it: with our server and without, printed and live."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.tokens import SECRET, token

COMMAND = Path(sys.executable).with_name("tidegate")
SIGNED = {"auth": {"secret": SECRET}, "limits": {"per_user": 1}}
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/net/tcp")

Result = subprocess.CompletedProcess[str]


def environment(config: Path | str) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
    return {**own, "TIDEGATE_CONFIG": str(config), "COLUMNS": "60", "TERM": "xterm"}


def top(config: Path | str, *arguments: object) -> Result:
    return subprocess.run(
        [COMMAND, "top", "--interval", "0.3s", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(config),
        timeout=60,
    )


def sample(config: Path | str, *arguments: object) -> dict[str, Any]:
    done = top(config, "--once", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@contextlib.contextmanager
def clients(server: Process, *users: str) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for user in users:
            client = stack.enter_context(contextlib.closing(server.connect()))
            client.open(headers=[("Authorization", f"Bearer {token(user)}")])
        yield


def test_one_sample_has_the_server_and_its_connections(serve: Start) -> None:
    server = serve(SIGNED)
    with clients(server, "ann", "bob"):
        server.wait_open(2)
        seen = sample(server.config, "--port", server.port)
    ours = seen["server"]
    assert ours["connections"] == 2
    assert ours["zone"] == "normal"
    assert {row["user"] for row in ours["rows"]} == {"ann", "bob"}
    assert ours["topAddresses"] == [{"name": "127.0.0.1", "count": 2}]
    assert ours["connects"] is not None
    assert ours["lag"] is not None
    if sys.platform == "linux":
        (port,) = seen["kernel"]["ports"]
        assert port["states"]["estab"] == 2
        assert port["owner"] == "tidegate"


def test_a_filter_lists_some_connections(serve: Start) -> None:
    server = serve(SIGNED)
    with clients(server, "ann", "bob"):
        server.wait_open(2)
        seen = sample(server.config, "--filter", "user=ann")
        assert [row["user"] for row in seen["server"]["rows"]] == ["ann"]


def test_a_table_fits_60_columns(serve: Start) -> None:
    server = serve(SIGNED)
    with clients(server, "ann"):
        server.wait_open(1)
        done = top(server.config, "--once")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert f"tidegate http://127.0.0.1:{server.admin_port}  normal" in lines[0]
    assert any(line.startswith("Connections 1 of 10,000") for line in lines)
    assert max(map(len, lines)) <= 60


@linux
def test_without_our_server_it_shows_the_ports_of_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            seen = sample("/dev/null", "--port", port, "--admin", f"127.0.0.1:{free_port()}")
    assert seen["server"] is None
    (found,) = seen["kernel"]["ports"]
    assert (found["port"], found["queue"]) == (port, 1)
    assert found["topAddresses"] == [{"name": "127.0.0.1", "count": 1}]
    assert "Connection refused" in seen["unseen"][0]


def test_something_else_at_the_admin_port_is_told(serve: Start) -> None:
    server = serve()
    seen = sample(server.config, "--admin", f"127.0.0.1:{server.port}")
    assert seen["server"] is None
    assert "the server: " in seen["unseen"][0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the view needs a terminal; --once prints a table"),
        (["--sort", "name"], "--sort name: must be one of buffered, idle, age, user, address"),
        (["--port", "70000"], "--port 70000: must be from 1 to 65535"),
        (["--filter", "age=3"], "a filter is a text, user=NAME"),
        (["--interval", "0s"], "--interval 0s: must be a number"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [COMMAND, "top", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=environment("/dev/null"),
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


class Terminal:
    """The live view in a terminal of 60 columns."""

    def __init__(self, config: Path, *arguments: str) -> None:
        self.master, worker = pty.openpty()
        termios.tcsetwinsize(worker, (40, 60))
        self.shown = ""
        own = environment(config)
        del own["COLUMNS"]
        self.process = subprocess.Popen(
            [COMMAND, "top", "--interval", "0.3s", *arguments],
            stdin=worker,
            stdout=worker,
            stderr=worker,
            env=own,
            start_new_session=True,
        )
        os.close(worker)

    def read(self) -> str:
        """All that was shown so far, without what moves the cursor."""
        while select.select([self.master], [], [], 0.05)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # it has ended
                break
            if not data:
                break
            self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))
        return self.shown

    def wait(self, text: str) -> None:
        wait_until(lambda: text in self.read(), 20, f"{text!r} is shown")

    def press(self, keys: str) -> None:
        self.shown = ""
        os.write(self.master, keys.encode())

    def end(self) -> int:
        deadline = time.monotonic() + 10
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        self.process.kill()
        os.close(self.master)
        return self.process.wait()


def test_a_connection_is_closed_from_the_view_after_a_question(serve: Start) -> None:
    server = serve(SIGNED)
    with clients(server, "ann", "bob"):
        server.wait_open(2)
        view = Terminal(server.config, "--filter", "ann")
        view.wait("CONNECTIONS by buffered, ann")
        view.press("x")
        view.wait("u: all of user ann")
        view.press("n")
        view.wait("nothing was closed")
        assert server.open() == 2
        view.press("x")
        view.wait("Close which?")
        view.press("u")
        view.wait("closed 1 connections")
        server.wait_open(1)
        assert [row["user"] for row in server.connections()] == ["bob"]
        view.press("s")
        view.wait("CONNECTIONS by idle")
        view.press("q")
        assert view.end() == 0


def test_ctrl_c_ends_the_view(serve: Start) -> None:
    server = serve()
    view = Terminal(server.config)
    view.wait("Connections 0 of 10,000")
    view.process.send_signal(signal.SIGINT)
    assert view.end() == 0


def test_lines_of_json_go_on_until_they_are_not_read(serve: Start) -> None:
    server = serve()
    process = subprocess.Popen(
        [COMMAND, "top", "--json", "--interval", "0.2s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(server.config),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        times = [json.loads(process.stdout.readline())["at"] for _ in range(3)]
        assert times == sorted(times)
        process.stdout.close()
        process.wait(20)
        assert process.stderr.read() == b""
