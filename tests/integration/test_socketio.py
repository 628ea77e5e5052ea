"""Socket.IO behind the gate: the official JavaScript client and that of python-socketio."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import socketio
from websockets.sync.client import ClientConnection, connect

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.process import Process, get
from tests.support.raw import Raw
from tests.support.tokens import SECRET, token

APP = "tests.support.socketio_app:app"
UVICORN = "uvicorn"
OURS = "tidegate run"
Run = Callable[..., Process]
Play = Callable[..., Any]
Open = Callable[[Process], ClientConnection]


@pytest.fixture
def start(program: Start) -> Run:
    """Starts the application on a server, with the options of `guard`."""

    def run(options: dict[str, Any] | None = None, server: str = UVICORN) -> Process:
        environment = {"GUARD": json.dumps(options or {})}
        if server == OURS:
            settings = {"server": {"path": ""}, "limits": {"per_ip": 1000}}
            command = f"-m tests.support.asgi_server {APP}"
            return program(command, settings, admin=False, environment=environment)
        port = free_port()
        command = f"-m uvicorn {APP} --port {port} --log-level warning"
        return program(command, admin=False, port=port, environment=environment)

    return run


@pytest.fixture
def play(node: Callable[..., str]) -> Play:
    def run(scene: str, server: Process, **options: Any) -> Any:
        url = f"http://127.0.0.1:{server.port}"
        return json.loads(node("socketio.mjs", scene, url, json.dumps(options)))

    return run


def stats(server: Process) -> Any:
    status, body = get(server.port, "/stats")
    assert status == 200
    return body


def wait_stats(server: Process, **wanted: Any) -> Any:
    def holds() -> bool:
        now = stats(server)
        return all(now[name] == value for name, value in wanted.items())

    wait_until(holds, 15, f"{wanted}, but {stats(server)}")
    return stats(server)


both = pytest.mark.parametrize("server", [UVICORN, OURS])


@both
def test_user_limit_is_exact_and_told_to_the_client(start: Run, play: Play, server: str) -> None:
    result = play("limits", start({"per_user": 2}, server))
    assert result["refused"] == {
        "message": "Too many connections of this user",
        "data": {
            "error": "user_limit",
            "message": "Too many connections of this user",
            "retryAfter": 10,
        },
        "active": False,
    }
    assert result["between"]["open"] == 3
    assert result["between"]["users"]["ann"] == 2
    assert result["after"]["users"] == {"ann": 0, "ben": 0, "payer": 0}
    assert result["after"]["rejected"]["user_limit"] == 1


@pytest.mark.parametrize(
    ("options", "reason", "retry_after"),
    [
        ({"per_ip": 0}, "ip_limit", 10),
        ({"connections": 0}, "server_limit", 5),
        ({"settings": {"tiers": {"paid": {"connections": 0}}}}, "tier_limit", 10),
    ],
    ids=["ip", "server", "tier"],
)
def test_other_limits_are_told(
    start: Run, play: Play, options: dict[str, Any], reason: str, retry_after: int
) -> None:
    result = play("attempt", start(options), auth={"user": "payer"})
    assert result["data"]["error"] == reason
    assert result["data"]["retryAfter"] == retry_after
    assert result["after"]["open"] == 0
    assert result["after"]["environs"] == 0


@both
def test_refusals_of_identify_are_told(start: Run, play: Play, server: str) -> None:
    process = start(server=server)
    process.expects_errors = True
    banned = play("attempt", process, auth={"user": "banned"})
    assert banned["data"]["error"] == "forbidden"
    assert banned["data"]["retryAfter"] is None
    rude = play("attempt", process, auth={"user": "rude"})
    assert rude["message"] == "be polite"
    assert rude["data"] == {"why": "rude"}
    broken = play("attempt", process, auth={"user": "broken"})
    assert broken["data"]["error"] == "internal_error"
    assert "database" not in json.dumps(broken)
    assert process.log.count("RuntimeError: the database is down") == 1
    assert broken["after"]["open"] == 0
    assert broken["after"]["rejected"]["forbidden"] == 2


@both
def test_refusal_by_the_handler_gives_the_lease_back(start: Run, play: Play, server: str) -> None:
    process = start({"connections": 1}, server)
    process.expects_errors = True
    for _ in range(2):
        refused = play("attempt", process, auth={"user": "ann", "handler": "refuses"})
        assert refused["message"] == "Connection rejected by server"
    failed = play("attempt", process, auth={"user": "ann", "handler": "fails"})
    assert failed["data"]["error"] == "internal_error"
    assert failed["data"]["retryAfter"] == 5
    assert failed["after"]["open"] == 0
    assert failed["after"]["environs"] == 0
    assert process.log.count("RuntimeError: the handler failed") == 1


@both
def test_rooms_broadcasts_and_binary_work(start: Run, play: Play, server: str) -> None:
    result = play("rooms", start(server=server))
    assert result == {"joined": ["x", "x"], "heard": "hello", "strays": 0, "bytes": [1, 2, 3]}


def test_namespaces_of_a_client_are_one_connection(start: Run, play: Play) -> None:
    result = play("namespaces", start())
    assert result["both"] == result["user"] == result["one"] == 1
    assert result["none"]["open"] == 0
    assert result["strict"] == {"strict": True}


@both
def test_drain_closes_with_1012_and_refuses_who_comes_back(
    start: Run, play: Play, server: str
) -> None:
    result = play("drain", start(server=server))
    assert result["reason"] == "transport close"
    assert result["code"] == 1012
    assert json.loads(result["text"]) == {"error": "drained", "retryAfter": 5}
    assert result["open"] == 0
    assert result["error"]["error"] == "draining"


@both
def test_end_of_the_server_ends_the_process(start: Run, server: str, opened: Open) -> None:
    process = start(server=server)
    client = opened(process)
    client.send("40")
    wait_joined(client)
    process.signal(signal.SIGINT)
    assert process.process.wait(20) in (0, -signal.SIGINT)
    assert "Traceback" not in process.log


def test_messages_above_the_rate_are_delayed(start: Run, play: Play) -> None:
    result = play("flood", start({"settings": {"messages": {"per_second": 20, "burst": 10}}}))
    assert result["seconds"] >= 0.9
    assert result["limited"]["delayed"] > 0


@pytest.mark.parametrize("transports", [["polling"], ["polling", "websocket"]], ids=str)
def test_polling_is_counted_per_session(start: Run, play: Play, transports: list[str]) -> None:
    server = start({"polling": True, "per_user": 1})
    result = play("polling", server, transports=transports)
    assert result["transport"] == transports[-1]
    assert result["echo"] == "hi"
    assert result["open"] == 1
    assert result["refused"]["data"]["error"] == "user_limit"
    assert result["reason"] == "transport close"
    assert result["after"]["open"] == 0


def test_polling_is_off_by_default(start: Run) -> None:
    server = start()
    status, body = get(server.port, "/socket.io/?EIO=4&transport=polling")
    assert (status, body) == (400, '"Invalid transport"')


def test_token_of_auth_says_who_it_is(start: Run, play: Play, opened: Open) -> None:
    server = start({"tokens": True, "per_user": 1, "settings": {"auth": {"secret": SECRET}}})
    wrong = play("attempt", server, auth={"token": "wrong"})
    assert wrong["data"]["error"] == "unauthorized"
    assert wrong["data"]["retryAfter"] is None
    auth = {"token": token("ann")}
    client = opened(server)
    client.send("40" + json.dumps(auth))
    wait_joined(client)
    assert stats(server)["users"]["ann"] == 1
    assert play("attempt", server, auth=auth)["data"]["error"] == "user_limit"
    client.close()
    wait_stats(server, open=0)


def test_client_of_python_sees_the_reason(start: Run) -> None:
    async def scene(url: str) -> Any:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        client = socketio.AsyncClient(reconnection=False)
        client.on("connect_error", told.set_result)
        with pytest.raises(socketio.exceptions.ConnectionError):
            await client.connect(url, transports=["websocket"])
        return await asyncio.wait_for(told, 20)

    server = start({"per_ip": 0})
    told = asyncio.run(scene(f"http://127.0.0.1:{server.port}"))
    assert told["data"]["error"] == "ip_limit"
    assert told["data"]["retryAfter"] == 10


SOCKET = "/socket.io/?EIO=4&transport=websocket"


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens an Engine.IO session, and asks for no namespace."""
    with ExitStack() as held:

        def open_one(server: Process) -> ClientConnection:
            url = f"ws://127.0.0.1:{server.port}{SOCKET}"
            client = held.enter_context(connect(url, proxy=None))
            assert str(client.recv(20)).startswith("0{")
            return client

        yield open_one


def said(client: ClientConnection, seconds: float = 5) -> str:
    return str(client.recv(seconds))


def wait_joined(client: ClientConnection) -> None:
    while not said(client).startswith("40{"):
        pass


@both
def test_client_that_vanishes_gives_its_lease_back(start: Run, server: str, opened: Open) -> None:
    process = start(server=server)
    clients = [opened(process) for _ in range(4)]
    for client in clients:
        client.send('40{"user":"ann"}')
        wait_joined(client)
    wait_stats(process, open=4, users={"ann": 4, "ben": 0, "payer": 0})
    clients[0].close()
    clients[1].socket.shutdown(2)
    clients[2].send("1")  # Engine.IO's own close
    clients[3].send("41")  # leaves its only namespace
    clients[3].close()
    clients[2].close()
    now = wait_stats(process, open=0, sessions=0, environs=0)
    ends = now["disconnected"]["normal"], now["disconnected"]["eof"]
    # uvicorn may say 1005, no code, of a client that is just gone.
    assert ends == (3, 1) or (server == UVICORN and ends == (4, 0))


def test_client_that_leaves_while_it_is_decided_gives_its_lease_back(
    start: Run, opened: Open
) -> None:
    server = start({"connections": 1})
    client = opened(server)
    client.send('40{"user":"slow"}')
    client.socket.shutdown(2)
    wait_stats(server, open=0, sessions=0)
    second = opened(server)
    second.send('40{"user":"ann"}')
    wait_joined(second)


def test_waiting_room_gives_a_ticket_that_keeps_the_position(start: Run, opened: Open) -> None:
    server = start({"connections": 1, "settings": {"waiting_room": {"enabled": True}}})
    first = opened(server)
    first.send("40")
    wait_joined(first)

    def asked(auth: Any) -> Any:
        client = opened(server)
        client.send("40" + json.dumps(auth))
        return json.loads(said(client).removeprefix("44"))["data"]

    told = asked({"user": "ann"})
    assert told["error"] == "waiting"
    assert told["position"] == 1
    assert told["retryAfter"] >= 1
    assert asked({"user": "ben"})["position"] == 2
    assert asked({"user": "ann", "ticket": told["ticket"]})["position"] == 1


def test_session_that_asks_for_no_namespace_is_closed(start: Run, opened: Open) -> None:
    server = start({"settings": {"server": {"handshake_timeout": 0.3}}})
    client = opened(server)
    with pytest.raises(Exception, match="handshake_timeout"):
        client.recv(10)
    wait_stats(server, sessions=0, environs=0)


@pytest.mark.parametrize("message", ["4x", '4{"a":1}', "40{", "4" + "9" * 30], ids=str)
def test_session_that_speaks_something_else_is_closed_or_ignored(
    start: Run, opened: Open, message: str
) -> None:
    server = start({"settings": {"server": {"handshake_timeout": 1}}})
    client = opened(server)
    client.send(message)
    with pytest.raises(Exception, match=r"protocol_error|handshake_timeout"):
        client.recv(10)
    wait_stats(server, open=0, sessions=0)


def test_refused_session_that_stays_is_closed(start: Run, opened: Open) -> None:
    server = start({"per_ip": 0})
    client = opened(server)
    client.send("40")
    assert '"ip_limit"' in said(client)
    with pytest.raises(Exception, match="ip_limit"):
        client.recv(15)
    wait_stats(server, sessions=0)


def test_sessions_without_a_decision_are_bounded_by_address(start: Run, opened: Open) -> None:
    server = start({"per_ip": 1})
    clients = [opened(server) for _ in range(32)]
    with pytest.raises(Exception, match="403"):
        opened(server)
    assert stats(server)["rejected"]["pending_limit"] == 1
    clients[0].send("40")
    wait_joined(clients[0])
    opened(server).close()
    for client in clients:
        client.close()
    wait_stats(server, open=0, sessions=0)


@both
def test_crowd_of_all_ends_leaves_nothing(start: Run, server: str, opened: Open) -> None:
    process = start({"connections": 20, "per_ip": 100}, server)
    process.expects_errors = True
    auths = [{"user": "ann"}, {"user": "rude"}, {"handler": "refuses"}, {"user": "slow"}]
    clients = [opened(process) for _ in range(30)]
    for number, client in enumerate(clients):
        client.send("40" + json.dumps(auths[number % 4]))
    wait_until(lambda: stats(process)["open"] <= 20, 20, "within the limit")
    for number, client in enumerate(clients):
        client.close() if number % 3 else client.socket.shutdown(2)
    wait_stats(process, open=0, sessions=0, environs=0)


def test_upgrade_that_is_cut_leaves_nothing(start: Run) -> None:
    server = start()
    raw = Raw(server.port)
    raw.send(
        f"GET {SOCKET} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    raw.reset()
    wait_stats(server, open=0, sessions=0)
