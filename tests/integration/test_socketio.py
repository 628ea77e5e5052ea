"""Socket.IO behind the gate, with the official JavaScript client, on uvicorn and `tidegate run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.process import ROOT, Process, get

APP = "tests.support.socketio_app:app"


@pytest.fixture(scope="module", params=["uvicorn", "tidegate run"])
def server(request: pytest.FixtureRequest, shared_program: Start) -> Iterator[Process]:
    if request.param == "uvicorn":
        port = free_port()
        command = f"-m uvicorn {APP} --log-level warning --port {port}"
        process = shared_program(command, port=port, admin=False)
    else:
        process = shared_program(f"-m tidegate run {APP} --no-access-log")
    process.expects_errors = True  # of the application
    yield process
    assert stats(process)["open"] == 0


def stats(server: Process) -> Any:
    status, body = get(server.port, "/stats")
    assert status == 200
    return body


@pytest.fixture
def play(node: Callable[..., str], server: Process) -> Callable[[str], Any]:
    def run(scene: str) -> Any:
        said = node("socketio.mjs", scene, f"http://127.0.0.1:{server.port}")
        result = json.loads(said.splitlines()[-1])
        wait_until(lambda: stats(server)["open"] == 0, 10, "all have left")
        return result

    return run


def test_client_over_a_limit_is_told_reason_and_delay(play: Callable[[str], Any]) -> None:
    result = play("limits")
    assert result["first"] == ["connected", "connected"]
    assert result["refused"]["message"] == "Too many connections of this user"
    assert result["refused"]["data"]["error"] == "user_limit"
    assert result["refused"]["data"]["retryAfter"] == 10
    assert result["again"] == "connected"


def test_refusals_by_identity_and_by_the_application(play: Callable[[str], Any]) -> None:
    result = play("refusals")
    assert result["nobody"]["data"]["error"] == "unauthorized"
    assert result["refuse"] == {"message": "not today", "data": {"why": "the application"}}
    assert result["fail"]["data"]["error"] == "internal_error"
    assert "LookupError" not in json.dumps(result)


def test_rooms_and_acknowledgements_work_as_before(play: Callable[[str], Any]) -> None:
    assert play("chat") == {"answer": "taken", "said": "hello"}


def test_connection_is_counted_once(play: Callable[[str], Any]) -> None:
    assert play("namespaces") == ["connected", 1]


def test_polling_is_off(play: Callable[[str], Any]) -> None:
    result = play("polling")
    assert result != "connected"
    assert "poll" in result["message"]


def test_client_that_is_killed_gives_its_lease_back(
    node: Callable[..., str], server: Process
) -> None:
    script = ROOT / "tests/js/socketio.mjs"
    url = f"http://127.0.0.1:{server.port}"
    with subprocess.Popen(["node", script, "hold", url], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert json.loads(client.stdout.readline()) == "holds"
        wait_until(lambda: stats(server)["open"] == 1, 10)
        os.kill(client.pid, signal.SIGKILL)
    wait_until(lambda: stats(server)["open"] == 0, 10, "its lease is back")


def test_drain_closes_clients(program: Start, node: Callable[..., str]) -> None:
    port = free_port()
    server = program(f"-m uvicorn {APP} --log-level warning --port {port}", port=port, admin=False)
    script = ROOT / "tests/js/socketio.mjs"
    with subprocess.Popen(
        ["node", script, "hold", f"http://127.0.0.1:{port}"], stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        client.stdout.readline()
        assert get(port, "/drain")[0] == 200
        assert json.loads(client.stdout.readline()) == "transport close"
    assert stats(server)["open"] == 0
