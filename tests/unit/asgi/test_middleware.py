"""The middleware: who is refused and how, and that every end gives the lease back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from tests.support.aio import in_loop
from tests.unit.asgi.fake_server import FakeServer, make_scope
from tidegate.asgi import GateMiddleware, middleware, visit
from tidegate.asgi.session import ClientDisconnected
from tidegate.asgi.types import Message, Receive, Scope, Send
from tidegate.core.admission.attempt import Identity
from tidegate.errors import Refused

Settings = dict[str, dict[str, object]]


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


def one(app: Any = echo, settings: Settings | None = None, **options: Any) -> GateMiddleware:
    return GateMiddleware(app, {"limits": {"connections": 1}, **(settings or {})}, **options)


async def full(gate: GateMiddleware, **scope: Any) -> FakeServer:
    """Open one more than there may be, and return it."""
    first = FakeServer(gate)
    await first.settles()
    assert first.kinds == ["websocket.accept"]
    second = FakeServer(gate, **scope)
    await second.ends()
    first.leaves()
    await first.ends()
    assert gate.gate.tracker.open == 0
    gate.gate.stop()
    return second


@in_loop
async def test_application_is_called_with_what_the_gate_knows() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope["extensions"]["tidegate"])
        await echo(scope, receive, send)

    async def identify(scope: Scope) -> Identity:
        return Identity("ann", "gold", 7)

    gate = GateMiddleware(app, {"tiers": {"gold": {}}}, identify=identify)
    server = FakeServer(gate)
    server.says("hello")
    await server.settles()
    assert server.sent[1:] == [{"type": "websocket.send", "text": "hello"}]
    assert (seen["user"], seen["tier"], seen["priority"], seen["zone"]) == (
        "ann",
        "gold",
        7,
        "normal",
    )
    assert gate.gate.tracker.open == 1
    server.leaves(1000)
    await server.ends()
    assert gate.gate.tracker.open == 0
    assert gate.gate.stats.disconnected["normal"] == 1
    gate.gate.stop()


@in_loop
async def test_refusal_is_a_response_where_the_server_has_it() -> None:
    server = await full(one())
    start, body = server.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert dict(start["headers"])[b"x-rejection-reason"] == b"server_limit"
    assert json.loads(body["body"])["error"] == "server_limit"
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()


@pytest.mark.parametrize("offered", ["tidegate.v1", "tidegate.v1.json", "chat"])
@in_loop
async def test_refusal_is_in_band_for_a_subprotocol_that_is_known(offered: str) -> None:
    server = await full(one(subprotocols=["chat"]), subprotocols=["x", offered])
    accept, close = server.sent
    assert accept == {"type": "websocket.accept", "subprotocol": offered}
    assert (close["type"], close["code"]) == ("websocket.close", 1013)
    assert json.loads(close["reason"]) == {"error": "server_limit", "retryAfter": 5}


@in_loop
async def test_refusal_is_a_response_where_the_settings_say_so() -> None:
    gate = one(settings={"server": {"refuse": "http"}})
    server = await full(gate, subprotocols=["tidegate.v1"])
    assert server.sent[0]["status"] == 503


@in_loop
async def test_refusal_without_the_extension_is_a_close_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = await full(one(), denial=False)
    assert server.kinds == ["websocket.close"]
    assert caplog.text.count("clients see 403") == 1


# Who it is.


def raising(error: Exception) -> Callable[[Scope], Any]:
    async def identify(scope: Scope) -> Any:
        raise error

    return identify


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (HTTPException(401), 401, "unauthorized"),
        (HTTPException(403, "not you"), 403, "forbidden"),
        (HTTPException(418), 403, "forbidden"),
        (Refused("user_limit", "too many"), 429, "user_limit"),
        (LookupError("of the database"), 500, "internal_error"),
    ],
)
@in_loop
async def test_identify_refuses_by_raising(
    caplog: pytest.LogCaptureFixture, error: Exception, status: int, reason: str
) -> None:
    gate = GateMiddleware(echo, {}, identify=raising(error))
    server = FakeServer(gate)
    await server.ends()
    assert server.sent[0]["status"] == status
    body = json.loads(server.sent[1]["body"])
    assert body["error"] == reason
    assert "database" not in str(body)
    assert gate.gate.stats.rejected[reason] == 1
    assert ("of the database" in caplog.text) == (status == 500)
    gate.gate.stop()


@in_loop
async def test_identify_may_return_a_name_or_nobody() -> None:
    users: list[str | None] = ["ann", None]

    async def identify(scope: Scope) -> str | None:
        return users.pop(0)

    gate = GateMiddleware(echo, {"limits": {"per_user": 1}}, identify=identify)
    servers = [FakeServer(gate), FakeServer(gate)]
    await servers[1].settles()
    assert gate.gate.tracker.unique_users == 1
    for server in servers:
        server.leaves()
        await server.ends()
    gate.gate.stop()


# How it ends.


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    """Neither accepts nor refuses."""


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    raise LookupError("of the application")


async def denies(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})


@pytest.mark.parametrize("app", [returns, denies, accepts])
@in_loop
async def test_application_that_ends_gives_the_lease_back(app: Any) -> None:
    gate = one(app)
    for _ in range(3):
        await FakeServer(gate).ends()
        assert gate.gate.tracker.open == 0
    gate.gate.stop()


@in_loop
async def test_application_that_raises_gives_the_lease_back_and_the_server_sees_it() -> None:
    gate = one(raises)
    with pytest.raises(LookupError):
        await FakeServer(gate).ends()
    assert gate.gate.tracker.open == 0
    assert gate.gate.stats.disconnected["handler_error"] == 1
    gate.gate.stop()


@pytest.mark.parametrize(
    ("app", "code", "reason"),
    [(accepts, 1000, ""), (raises, 1011, '{"error":"handler_error","retryAfter":5}')],
)
@in_loop
async def test_what_the_application_left_open_is_closed(app: Any, code: int, reason: str) -> None:
    gate = one(app)
    server = FakeServer(gate)
    with contextlib.suppress(LookupError):
        await server.ends()
    assert server.sent[1:] == [{"type": "websocket.close", "code": code, "reason": reason}]
    gate.gate.stop()


@in_loop
async def test_application_that_closed_by_itself_is_left_alone() -> None:
    async def closes(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    gate = one(closes)
    server = FakeServer(gate)
    await server.ends()
    assert server.kinds == ["websocket.accept", "websocket.close"]
    gate.gate.stop()


@in_loop
async def test_client_that_takes_nothing_holds_no_lease_after_the_application() -> None:
    async def ends_stuck(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        server.free.clear()

    gate = one(ends_stuck, {"server": {"shutdown_timeout": 0.05}})
    server = FakeServer(gate)
    await server.ends()
    assert gate.gate.tracker.open == 0
    gate.gate.stop()


@in_loop
async def test_application_that_does_neither_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    server = FakeServer(gate := one(returns))
    await server.ends()
    assert server.sent[0]["status"] == 500
    assert "returned without accepting" in caplog.text
    gate.gate.stop()


@in_loop
async def test_application_that_takes_too_long_to_accept_is_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    server = FakeServer(gate := one(waits, {"server": {"handshake_timeout": 0.1}}))
    await server.ends()
    assert server.sent[0]["status"] == 503
    assert json.loads(server.sent[1]["body"])["error"] == "decision_timeout"
    assert caplog.text.count("accepted no WebSocket in 0.1 s") == 1
    assert gate.gate.tracker.open == 0
    gate.gate.stop()


@in_loop
async def test_time_to_accept_does_not_bound_what_is_open() -> None:
    server = FakeServer(gate := one(echo, {"server": {"handshake_timeout": 0.1}}))
    await asyncio.sleep(0.2)
    server.says("still there")
    await server.settles()
    assert server.kinds == ["websocket.accept", "websocket.send"]
    server.leaves()
    await server.ends()
    gate.gate.stop()


@in_loop
async def test_server_that_says_the_client_is_gone_gives_the_lease_back() -> None:
    async def ticks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        server.refuses = lambda _: OSError("of the server")
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "tick"})
        assert gate.gate.tracker.open == 0
        assert (await receive())["type"] == "websocket.connect"
        assert (await receive())["type"] == "websocket.disconnect"

    server = FakeServer(gate := one(ticks))
    await server.ends()
    assert gate.gate.stats.disconnected["eof"] == 1
    gate.gate.stop()


@pytest.mark.parametrize(
    ("offered", "agreed"), [(["x", "tidegate.v1"], "tidegate.v1"), (["x"], None)]
)
@in_loop
async def test_subprotocol_that_says_nothing_is_agreed_to_in_place_of_none(
    offered: list[str], agreed: str | None
) -> None:
    server = FakeServer(gate := one(accepts), subprotocols=offered)
    await server.ends()
    assert server.sent[0].get("subprotocol") == agreed
    gate.gate.stop()


@in_loop
async def test_response_is_a_close_where_the_server_has_none() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": 418})
        await send({"type": "websocket.http.response.body", "body": b"a teapot"})

    server = FakeServer(gate := one(app), denial=False)
    await server.ends()
    assert server.sent == [{"type": "websocket.close"}]
    gate.gate.stop()


@in_loop
async def test_server_that_cancels_gives_the_lease_back() -> None:
    gate = one()
    server = FakeServer(gate)
    await server.settles()
    server.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server.ends()
    assert gate.gate.tracker.open == 0
    gate.gate.stop()


@in_loop
async def test_client_that_leaves_a_busy_application_gives_the_lease_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(visit, "_LOOK_SECONDS", 0.01)

    gate = one(busy, {"server": {"shutdown_timeout": 0.05}})
    server = FakeServer(gate)
    await server.settles()
    assert gate.gate.tracker.open == 1
    server.leaves()
    await server.ends()
    assert gate.gate.tracker.open == 0
    assert caplog.text.count("went on after its client") == 1
    gate.gate.stop()


async def busy(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.Event().wait()


@in_loop
async def test_client_that_is_not_listened_to_and_leaves_gives_the_lease_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(visit, "_LOOK_SECONDS", 0.01)
    gate = one(busy, {"server": {"shutdown_timeout": 0.05}})
    server = FakeServer(gate)
    for _ in range(10):
        server.says("is anybody there?")
    server.leaves()
    await server.ends()
    assert gate.gate.tracker.open == 0
    gate.gate.stop()


@in_loop
async def test_no_more_is_taken_ahead_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "_LOOK_SECONDS", 0.01)
    gate = one(busy)
    many, large = FakeServer(gate), FakeServer(one(busy))
    for _ in range(100):
        many.says("x")
        large.says("x" * 40_000)
    await asyncio.sleep(0.1)
    assert many.events.qsize() == 100 - 32
    assert large.events.qsize() == 100 - 2
    for server in (many, large):
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.ends()
    gate.gate.stop()


@in_loop
async def test_message_that_was_taken_ahead_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit, "_LOOK_SECONDS", 0.01)
    heard: list[Message] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(0.1)  # one look ahead
        while (event := await receive())["type"] == "websocket.receive":
            heard.append(event["text"])

    gate = one(slow)
    server = FakeServer(gate)
    for text in "abc":
        server.says(text)
    server.leaves()
    await server.ends()
    assert heard == ["a", "b", "c"]
    gate.gate.stop()


@in_loop
async def test_application_that_gives_up_waiting_loses_no_message() -> None:
    heard: list[str] = []

    async def impatient(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            try:
                event = await asyncio.wait_for(receive(), 0.01)
            except TimeoutError:
                continue
            if event["type"] != "websocket.receive":
                return
            heard.append(event["text"])

    gate = one(impatient)
    server = FakeServer(gate)
    for text in "ab":
        await asyncio.sleep(0.03)
        server.says(text)
    server.leaves()
    await server.ends()
    assert heard == ["a", "b"]
    gate.gate.stop()


@in_loop
async def test_application_that_sends_to_a_client_that_left_is_told() -> None:
    async def ticker(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "tick"})
        raise AssertionError("it must not get here")

    gate = one(ticker)
    server = FakeServer(gate)
    server.leaves()
    await server.ends()
    assert server.kinds == ["websocket.accept"]
    gate.gate.stop()


# What a client may send.


@in_loop
async def test_message_that_is_too_big_closes() -> None:
    gate = one(settings={"messages": {"max_size": 4}})
    server = FakeServer(gate)
    server.says("four")
    server.says("ééé")
    await server.ends()
    assert server.kinds == ["websocket.accept", "websocket.send", "websocket.close"]
    assert server.sent[-1]["code"] == 1009
    assert json.loads(server.sent[-1]["reason"])["error"] == "message_too_big"
    assert gate.gate.tracker.open == 0
    assert gate.gate.stats.disconnected["message_too_big"] == 1
    gate.gate.stop()


@in_loop
async def test_messages_that_come_too_fast_are_read_later() -> None:
    gate = one(settings={"messages": {"per_second": 50, "burst": 2}})
    server = FakeServer(gate)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(6):
        server.says(str(number))
    server.leaves()
    await server.ends()
    assert [event["text"] for event in server.sent[1:]] == list("012345")
    assert loop.time() - began >= 0.07
    assert gate.gate.stats.messages_limited["delayed"] >= 3
    gate.gate.stop()


@in_loop
async def test_token_that_ends_closes() -> None:
    from time import time

    async def identify(scope: Scope) -> Identity:
        return Identity("ann", expires_at=time() + 0.05)

    gate = one(identify=identify)
    server = FakeServer(gate)
    await asyncio.wait_for(_until(lambda: "websocket.close" in server.kinds), 10)
    assert server.sent[-1]["code"] == 4501
    assert gate.gate.tracker.open == 0
    server.leaves()
    await server.ends()
    gate.gate.stop()


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


# The rest.


@in_loop
async def test_drain_closes_all_and_admits_nobody() -> None:
    gate = GateMiddleware(echo, {})
    servers = [FakeServer(gate) for _ in range(5)]
    await servers[-1].settles()
    await gate.drain(0.01)
    for server in servers:
        assert server.sent[-1]["code"] == 1012
        server.leaves()
        await server.ends()
    late = FakeServer(gate)
    await late.ends()
    assert dict(late.sent[0]["headers"])[b"x-rejection-reason"] == b"draining"
    assert gate.gate.tracker.open == 0
    gate.gate.stop()


@in_loop
async def test_lifespan_starts_and_drains() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        await echo(scope, receive, send)

    gate = GateMiddleware(app, {})
    events: asyncio.Queue[Message] = asyncio.Queue()
    sent: list[Message] = []

    async def send(event: Message) -> None:
        sent.append(event)

    life = asyncio.ensure_future(gate({"type": "lifespan"}, events.get, send))
    events.put_nowait({"type": "lifespan.startup"})
    server = FakeServer(gate)
    await server.settles()
    events.put_nowait({"type": "lifespan.shutdown"})
    await asyncio.wait_for(life, 10)
    assert [event["type"] for event in sent][-1] == "lifespan.shutdown.complete"
    assert server.sent[-1]["code"] == 1012
    server.leaves()
    await server.ends()


@in_loop
async def test_drain_does_not_wait_for_clients_that_take_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(middleware, "_CLOSING_SECONDS", 0.05)
    gate = GateMiddleware(echo, {"server": {"shutdown_timeout": 0.1}})
    stuck, free = FakeServer(gate), FakeServer(gate)
    await free.settles()
    stuck.free.clear()
    await gate.drain(0.0)
    assert free.sent[-1]["code"] == 1012
    assert gate.gate.tracker.open == 0
    await stuck.ends()
    await free.ends()
    gate.gate.stop()


async def sends_on(scope: Scope, receive: Receive, send: Send) -> None:
    await accepts(scope, receive, send)
    while True:
        await asyncio.sleep(0)
        await send({"type": "websocket.send", "text": "on"})


async def sends_until_the_client_is_gone(scope: Scope, receive: Receive, send: Send) -> None:
    with contextlib.suppress(OSError):
        await sends_on(scope, receive, send)


@pytest.mark.parametrize("app", [sends_on, sends_until_the_client_is_gone])
@in_loop
async def test_application_that_ends_during_our_close_does_not_go_before_it(app: Any) -> None:
    gate = GateMiddleware(app, {})
    server = FakeServer(gate)
    await server.settles()
    server.waits = lambda event: event["type"] == "websocket.close"
    server.free.clear()
    closing = asyncio.ensure_future(gate.drain(0.0))
    await server.settles()
    assert not server.task.done()
    server.free.set()
    await closing
    await server.ends()
    assert server.sent[-1]["code"] == 1012
    assert gate.gate.tracker.open == 0
    gate.gate.stop()


@in_loop
async def test_server_that_sends_no_code_of_the_protocol_gets_one_of_libraries() -> None:
    def refuses(event: Message) -> Exception | None:
        # As autobahn does, on which daphne runs.
        return Exception("invalid close code") if 1000 < event.get("code", 0) < 3000 else None

    gate = GateMiddleware(echo, {})
    server = FakeServer(gate)
    await server.settles()
    server.refuses = refuses
    await gate.drain(0.0)
    assert server.sent[-1]["code"] == 3012
    server.leaves()
    await server.ends()
    gate.gate.stop()


@pytest.mark.parametrize(
    ("path", "draining", "status", "body"),
    [
        ("/health", True, 200, {"status": "ok"}),
        ("/ready", False, 200, {"ready": True}),
        ("/ready", True, 503, {"ready": False, "reason": "draining"}),
    ],
)
@in_loop
async def test_health_and_ready_are_answered_where_asked_for(
    path: str, draining: bool, status: int, body: dict[str, object]
) -> None:
    gate = GateMiddleware(echo, {}, health_path="/health", ready_path="/ready")
    if draining:
        gate.gate.begin_drain()
    server = FakeServer(gate, type="http", path=path, method="GET")
    await server.ends()
    assert server.sent[0]["status"] == status
    assert json.loads(server.sent[1]["body"]) == body


@pytest.mark.parametrize(("own", "decides"), [(None, False), ({}, True)], ids=["none", "own"])
@in_loop
async def test_under_our_server_it_decides_by_settings_of_its_own_only(
    own: Settings | None, decides: bool
) -> None:
    gate = GateMiddleware(echo, own)
    server = FakeServer(gate, extensions={"tidegate": {"id": None}})
    await server.settles()
    assert (gate.gate.tracker.open == 1) == decides
    server.leaves()
    await server.ends()
    gate.gate.stop()


@in_loop
async def test_log_says_nothing_of_an_application_that_behaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "tidegate"):
        gate = GateMiddleware(echo, {})
        server = FakeServer(gate)
        await server.settles()
        server.leaves()
        await server.ends()
    assert caplog.text == ""
    gate.gate.stop()


@in_loop
async def test_refusal_is_no_error_in_the_log_of_uvicorn(caplog: pytest.LogCaptureFixture) -> None:
    said = "ASGI callable returned without completing handshake."

    async def as_uvicorn_does(app: Any) -> None:
        events: asyncio.Queue[Message] = asyncio.Queue()
        events.put_nowait({"type": "websocket.connect"})

        async def send(event: Message) -> None:
            """Nobody looks at it."""

        await app(make_scope(), events.get, send)
        logging.getLogger("uvicorn.error").error(said)

    gate = GateMiddleware(returns, {"limits": {"per_ip": 0}})
    await asyncio.create_task(as_uvicorn_does(gate))
    assert said not in caplog.text
    await asyncio.create_task(as_uvicorn_does(GateMiddleware(denies, {})))
    assert said in caplog.text
    gate.gate.stop()


@pytest.mark.parametrize("accept", ["*/*", "application/openmetrics-text; version=1.0.0"])
@in_loop
async def test_metrics_are_answered_where_asked_for(accept: str) -> None:
    gate = GateMiddleware(echo, {"limits": {"connections": 1}}, metrics_path="/metrics")
    first = FakeServer(gate)
    await first.settles()
    await FakeServer(gate).ends()
    headers = [(b"accept", accept.encode())]
    server = FakeServer(gate, type="http", path="/metrics", method="GET", headers=headers)
    await server.ends()
    text = server.sent[1]["body"].decode()
    assert 'websocket_connections_current{state="open"} 1.0' in text
    assert 'websocket_rejections_total{reason="server_limit"} 1.0' in text
    assert "websocket_utilization_ratio 1.0" in text
    assert text.endswith("# EOF\n") == accept.startswith("application")
    first.leaves()
    await first.ends()
    gate.gate.stop()
