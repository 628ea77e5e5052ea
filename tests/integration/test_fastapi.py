"""FastAPI applications with the gate, and with the connection manager, under two servers."""

from __future__ import annotations

import json
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Start
from tests.support.fastapi_app import PER_IP, PER_ROOM
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.raw import Raw

OPEN: dict[str, dict[str, Any]] = {
    "server": {"path": ""},
    "limits": {"per_ip": 1000, "connections": 1000},
    "pacing": {"enabled": False},
    "messages": {"per_second": 0},
}
APP = "tests.support.fastapi_app:app"


@pytest.fixture(scope="module", params=["tidegate", "uvicorn"])
def server(request: pytest.FixtureRequest, shared_program: Start) -> Process:
    """The application, on our engine with limits out of the way, and under uvicorn."""
    if request.param == "tidegate":
        process = shared_program(f"-m tests.support.asgi_server {APP}", OPEN, admin=False)
    else:
        port = free_port()
        command = f"-m uvicorn {APP} --port {port} --ws websockets-sansio --log-level warning"
        process = shared_program(command, port=port, admin=False)
    process.expects_errors = True  # of the application
    return process


def opened(server: Process, path: str, **options: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{server.port}/{path}"
    client: ClientConnection = connect(url, proxy=None, compression=None, **options)
    return client


def call(server: Process, path: str, method: str = "GET") -> Any:
    return httpx.request(method, f"http://127.0.0.1:{server.port}{path}", timeout=10).json()


def wait_until_empty(server: Process, where: str) -> None:
    def empty() -> bool:
        stats = call(server, "/stats")[where]
        counts: tuple[int, ...] = (stats["connections"], stats["users"], stats["rooms"])
        return counts == (0, 0, 0)

    wait_until(empty, 15, "all connections are forgotten")


def test_members_talk_in_typed_messages(server: Process) -> None:
    with opened(server, "ws/a?user=ann") as ann, opened(server, "ws/a?user=bob") as bob:
        ann.send('{"text":"hi"}')
        assert json.loads(bob.recv(20)) == {"by": "ann", "text": "hi"}
        ann.send('{"text":')
        assert json.loads(ann.recv(20))["code"] == "invalid_json"
        assert call(server, "/lobbies/a?text=all", "POST") == {"reached": 2}
        assert json.loads(ann.recv(20)) == {"by": "system", "text": "all"}
    wait_until_empty(server, "gate")


def test_ping_is_answered_by_the_client(server: Process) -> None:
    with opened(server, "ws/a?user=ann") as ann, ThreadPoolExecutor(1) as pool:
        pinging = pool.submit(call, server, "/ping/ann")
        if "uvicorn" in str(server.process.args):  # on our engine the client's library answers
            ping = json.loads(ann.recv(20))
            ann.send(json.dumps({"type": "pong", "id": ping["id"]}))
        assert 0 < pinging.result() < 5
    with Raw(server.port).open(path="/ws/a?user=ann"):
        assert call(server, "/ping/ann?timeout=0.1") is None
    assert call(server, "/ping/nobody") is None
    wait_until_empty(server, "gate")


@pytest.mark.parametrize("path", ["ws", "manager"])
def test_refusals_have_a_status_and_a_reason(server: Process, path: str) -> None:
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(opened(server, f"{path}/{path}?user=ann"))
        with pytest.raises(InvalidStatus) as refused:
            opened(server, f"{path}/{path}?user=ann")
        response = refused.value.response
        assert response.status_code == 429
        assert response.headers["X-Rejection-Reason"] == "user_limit"
        assert response.headers["Retry-After"] == "10"
        for _ in range(2, PER_ROOM):
            held.enter_context(opened(server, f"{path}/{path}"))
        with pytest.raises(InvalidStatus) as refused:
            opened(server, f"{path}/{path}")
        assert refused.value.response.headers["X-Rejection-Reason"] == "room_full"
    with pytest.raises(InvalidStatus) as refused:
        opened(server, "ws/a?user=stranger")
    assert refused.value.response.status_code == 401
    wait_until_empty(server, "manager")
    wait_until_empty(server, "gate")


@pytest.mark.parametrize(("path", "where"), [("ws", "gate"), ("manager", "manager")])
def test_attempts_at_once_are_admitted_exactly_to_the_limit(
    server: Process, path: str, where: str
) -> None:
    lobbies = iter(range(1000))

    def attempt(_: int) -> ClientConnection | str:
        try:
            return opened(server, f"{path}/{next(lobbies) % 7}", open_timeout=30)
        except InvalidStatus as refused:
            return refused.response.headers["X-Rejection-Reason"]

    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(attempt, range(PER_IP + 70)))
    with ExitStack() as held:
        admitted = [held.enter_context(one) for one in outcomes if not isinstance(one, str)]
        assert len(admitted) == PER_IP
        assert [one for one in outcomes if isinstance(one, str)] == ["ip_limit"] * 70
        assert call(server, "/stats")[where]["connections"] == PER_IP
    wait_until_empty(server, where)


@pytest.mark.parametrize(("path", "where"), [("ws", "gate"), ("manager", "manager")])
def test_every_way_to_end_leaves_nothing(server: Process, path: str, where: str) -> None:
    dice = random.Random(15)
    wire = (lambda text: json.dumps({"text": text})) if path == "ws" else str
    for _ in range(3):
        with ExitStack() as held:
            for number in range(20):
                client = held.enter_context(opened(server, f"{path}/{number % 3}?user={number}"))
                match dice.choice(["close", "reset", "raise", "return", "message"]):
                    case "close":
                        client.close()
                    case "reset":
                        client.socket.shutdown(socket.SHUT_RDWR)
                    case "message":
                        client.send(wire("hello"))
                    case how:
                        client.send(wire(how))
        wait_until_empty(server, where)


@pytest.mark.parametrize(("path", "where"), [("ws", "gate"), ("manager", "manager")])
def test_member_that_never_reads_delays_nobody_and_is_bounded(
    server: Process, path: str, where: str
) -> None:
    """A message of 64 KiB 100 times a second, which is more than the kernel keeps for one."""
    members, messages, text = 8, 150, "x" * 65536
    delays: list[float] = []
    begin = call(server, "/stats")["memory"]

    def read(client: ClientConnection) -> None:
        for _ in range(messages):
            message = json.loads(client.recv(30))
            delays.append(time.monotonic() - float(message["text"].split()[0]))

    with ExitStack() as held, ThreadPoolExecutor(members) as pool:
        slow = held.enter_context(Raw(server.port, receive_buffer=4096))
        slow.open(path=f"/{path}/slow")
        clients = [held.enter_context(opened(server, f"{path}/slow")) for _ in range(members)]
        readers = [pool.submit(read, client) for client in clients]
        sender = held.enter_context(opened(server, f"{path}/slow"))
        for _ in range(messages):
            said = f"{time.monotonic()} {text}"
            sender.send(json.dumps({"text": said}) if path == "ws" else said)
            time.sleep(0.01)
        for reader in readers:
            reader.result(60)
        assert len(delays) == messages * members
        assert sorted(delays)[len(delays) // 2] < 1.0
        assert call(server, "/stats")["memory"] - begin < 64 << 20
        wait_until(
            lambda: call(server, "/stats")[where]["connections"] == members + 1,
            15,
            "the member that never reads was closed",
        )
    wait_until_empty(server, where)
