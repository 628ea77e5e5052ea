"""`Server` and the `Connection` that its handlers get: a thin face of the node."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.clients import Client, run_guarded, until
from tests.support.net import wait_until
from tests.support.raw import BINARY, CLOSE, frame
from tidegate import ConfigError, Connection, Request, Server, Settings, UsageError, http_response
from tidegate.core.codes import DRAINED, HANDLER_ERROR, close_text

QUICK: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 1.0},
    "pacing": {"enabled": False},
}


async def open_at(server: Server, protocol: str | None = None) -> Client:
    return await Client.open(server.addresses[0][1], protocol)


# Settings.


@pytest.mark.parametrize(
    ("given", "per_ip"),
    [(None, 100), ({}, 100), ({"limits": {"per_ip": 3}}, 3), (Settings(), 100)],
)
def test_server_takes_settings_in_any_form(given: Any, per_ip: int) -> None:
    server = Server(given)
    assert isinstance(server.settings, Settings)
    assert server.settings.limits.per_ip == per_ip


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"limits": {"per_ip": -1}}, "limits.per_ip"),
        ({"limits": {"per_ipp": 1}}, "per_ipp"),
        ({"proxies": {"trusted": ["nowhere"]}}, "nowhere"),
        ({"tls": {"certificate": "/no/file", "key": "/no/key"}}, "tls.certificate"),
    ],
)
def test_server_with_wrong_settings_names_them(given: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Server(given)


# What a user sees.


def public(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}


def test_server_shows_only_what_a_user_uses() -> None:
    life = {"run", "serve", "start", "stop", "drain"}
    handlers = {"identify", "token_identity", "http", "route", "task"}
    handlers |= {"on_connect", "on_message", "on_close", "on_leaving", "on_zone_change"}
    known = {"addresses", "connections", "draining", "ready", "settings", "stats"}
    messages = {"broadcast", "broadcast_json", "call_soon", "room", "rooms", "user", "users"}
    messages.add("revoke")
    assert public(Server) == set(dir(Server())) == life | handlers | known | messages


def test_connection_shows_only_what_a_user_uses() -> None:
    does = {"send", "close", "abort", "wait_closed", "join", "leave", "ping", "receive"}
    does |= {"messages", "send_json"}
    known = {"address", "buffered", "closed", "context", "id", "latency", "number", "open", "path"}
    assert public(Connection) == does | known | {"rooms", "subprotocol", "tier", "user"}


def test_everything_that_a_user_sees_is_documented() -> None:
    for of in (Server, Connection):
        for name in public(of) - {"context", "latency"}:
            assert getattr(of, name).__doc__, f"{of.__name__}.{name}"


# Life.


def test_server_from_start_to_stop_says_how_it_is() -> None:
    async def main() -> None:
        server = Server({**QUICK, "limits": {"connections": 1}})
        assert server.ready == (False, "not listening")
        assert server.addresses == []
        await server.start()
        ((host, port),) = server.addresses
        assert (host, port > 0) == ("127.0.0.1", True)
        assert (server.ready, server.draining) == ((True, ""), False)
        client = await open_at(server)
        assert server.ready == (False, "server_limit")
        client.leave()
        await until(lambda: server.ready == (True, ""))
        await server.stop()
        assert server.draining
        assert server.ready == (False, "not listening")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
        await server.stop()

    run_guarded(main())


def test_server_as_a_context_starts_and_stops() -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            assert server.ready == (True, "")
            assert list(server.connections) == []
        assert server.addresses == []

    run_guarded(main())


def test_server_with_an_address_that_is_taken_says_so() -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            port = server.addresses[0][1]
            second = Server({"server": {"port": port}})
            with pytest.raises(ConfigError, match=f"port {port}"):
                await second.start()
            assert server.ready == (True, "")
            await second.stop()

    run_guarded(main())


def test_server_that_drains_refuses_attempts_and_says_so() -> None:
    async def main() -> None:
        server = Server(QUICK)
        await server.start()
        client = await open_at(server)
        draining = asyncio.create_task(server.drain(0.2))
        await until(lambda: server.draining)
        assert server.ready == (False, "draining")
        late = await Client.at(server.addresses[0][1])
        assert (await late.ask()).headers["x-rejection-reason"] == "draining"
        assert await client.closed() == (1012, close_text(DRAINED, 0))
        await draining
        assert server.addresses == []
        for each in (client, late):
            each.leave()

    run_guarded(main())


@pytest.fixture
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, action in before.items():
        signal.signal(number, action)


@pytest.mark.usefixtures("_signals_as_before")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_server_serves_until_a_signal_comes(name: str) -> None:
    async def main() -> None:
        server = Server(QUICK)
        serving = asyncio.create_task(server.serve())
        await until(lambda: server.addresses)
        os.kill(os.getpid(), getattr(signal, name))
        await serving
        assert server.addresses == []

    run_guarded(main())


@pytest.mark.usefixtures("_signals_as_before")
def test_server_runs_in_a_loop_of_its_own_until_a_signal_comes() -> None:
    server = Server(QUICK)

    def end() -> None:
        wait_until(lambda: server.addresses)
        os.kill(os.getpid(), signal.SIGTERM)

    other = threading.Thread(target=end)
    other.start()
    server.run()
    other.join()
    assert server.addresses == []


def test_server_runs_in_another_thread_and_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    loops: list[asyncio.AbstractEventLoop] = []
    server = Server(QUICK, on_connect=lambda *_: loops.append(asyncio.get_running_loop()))
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            server.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    wait_until(lambda: server.addresses or failed)
    assert failed == []
    assert signal.getsignal(signal.SIGTERM) == before

    async def connect() -> None:
        await open_at(server)

    run_guarded(connect())
    wait_until(lambda: loops)
    asyncio.run_coroutine_threadsafe(server.stop(), loops[0]).result(5.0)
    thread.join(5.0)
    assert not thread.is_alive()
    assert failed == []


def test_server_does_not_run_in_a_loop_that_runs_already() -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match=r"in a running one, await serve\(\)"):
            Server(QUICK).run()

    run_guarded(main())


@pytest.mark.parametrize("again", ["start", "serve"])
@pytest.mark.parametrize("first", ["start", "start and stop", "stop", "drain", "serve"])
def test_server_serves_once(first: str, again: str) -> None:
    async def main() -> None:
        server = Server(QUICK)
        serving = None
        if first == "serve":
            serving = asyncio.create_task(server.serve())
            await until(lambda: server.addresses)
        elif first == "drain":
            await server.drain(0)
        else:
            for step in first.split(" and "):
                await getattr(server, step)()
        was = "stopped before it was started" if first in ("stop", "drain") else "started already"
        with pytest.raises(UsageError, match=f"this server was {was}.*make another"):
            await getattr(server, again)()
        await server.stop()
        if serving is not None:
            await serving

    run_guarded(main())


def test_server_that_could_not_listen_can_be_started_when_the_address_is_free() -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            port = server.addresses[0][1]
            second = Server({"server": {"port": port, "shutdown_timeout": 1.0}})
            with pytest.raises(ConfigError, match=f"port {port}"):
                await second.start()
        await second.start()
        assert second.ready == (True, "")
        await second.stop()

    run_guarded(main())


# What is known of it.


def test_stats_are_the_counters_of_now() -> None:
    async def main() -> None:
        async with Server(QUICK, on_message=Connection.send) as server:
            before = server.stats()
            client = await open_at(server)
            await client.say("hello")
            await client.text()
            stats = server.stats()
            assert (stats.connections.accepted, stats.connections.current) == (1, 1)
            assert stats.connections.limit == 10_000
            assert (stats.messages.received, stats.messages.sent) == (1, 1)
            assert stats.rooms == 0
            assert before.connections.accepted == 0  # what was taken stays as it was
            client.leave()

    run_guarded(main())


def test_connections_of_a_server_are_those_of_its_handlers() -> None:
    async def main() -> None:
        seen: list[Connection] = []
        async with Server(
            QUICK, on_connect=lambda connection, _: seen.append(connection)
        ) as server:
            clients = [await open_at(server) for _ in range(3)]
            assert set(server.connections) == set(seen)
            assert len(seen) == 3
            for client in clients:
                client.leave()
            await until(lambda: list(server.connections) == [])

    run_guarded(main())


def test_connection_without_an_on_connect_is_the_same_wherever_it_is_seen() -> None:
    async def main() -> None:
        seen: list[Connection] = []
        closed: list[Connection] = []
        async with Server(
            QUICK,
            on_message=lambda connection, _: seen.append(connection),
            on_close=lambda connection, code, text: closed.append(connection),
        ) as server:
            client = await open_at(server)
            (first,) = server.connections
            await client.say("one", "two")
            await until(lambda: len(seen) == 2)
            client.leave()
            await until(lambda: closed)
            assert all(each is first for each in (*seen, *closed))

    run_guarded(main())


# Handlers.


class Log:
    """Handlers, plain or async, that note what they are called with."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async
        self.calls: list[tuple[Any, ...]] = []
        self.connections: list[Connection] = []

    def on_connect(self, connection: Connection, request: Request) -> Any:
        return self._note(connection, "connect", request.path)

    def on_message(self, connection: Connection, message: str | bytes) -> Any:
        return self._note(connection, "message", message)

    def on_close(self, connection: Connection, code: int, text: str) -> Any:
        return self._note(connection, "close", code, text)

    def on_leaving(self, connection: Connection, delay: float) -> None:
        self.connections.append(connection)
        self.calls.append(("leaving", delay))

    def _note(self, connection: Connection, *call: Any) -> Any:
        if self.is_async:
            return self._later(connection, call)
        self._now(connection, call)
        return None

    async def _later(self, connection: Connection, call: tuple[Any, ...]) -> None:
        await asyncio.sleep(0)
        self._now(connection, call)
        await asyncio.sleep(0)

    def _now(self, connection: Connection, call: tuple[Any, ...]) -> None:
        self.connections.append(connection)
        self.calls.append(call)
        if call[0] == "message":
            connection.send(call[1])

    def server(self, settings: Any = None, **more: Any) -> Server:
        return Server(
            settings or QUICK,
            on_connect=self.on_connect,
            on_message=self.on_message,
            on_close=self.on_close,
            on_leaving=self.on_leaving,
            **more,
        )


@pytest.mark.parametrize("is_async", [False, True])
def test_handlers_are_called_in_order_with_one_connection(is_async: bool) -> None:
    async def main() -> None:
        log = Log(is_async=is_async)
        async with log.server() as server:
            client = await open_at(server)
            await client.say("one", "two")
            await client.send(frame(BINARY, b"\0\1"))
            assert [await client.text() for _ in range(2)] == ["one", "two"]
            assert (await client.frame()).payload == b"\0\1"
            await client.close(4321)
            await until(lambda: len(log.calls) == 5)
        assert log.calls == [
            ("connect", "/ws"),
            ("message", "one"),
            ("message", "two"),
            ("message", b"\0\1"),
            ("close", 4321, ""),
        ]
        assert len(set(log.connections)) == 1

    run_guarded(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_handler_for_leaving_is_called_in_a_drain_before_the_close(is_async: bool) -> None:
    async def main() -> None:
        log = Log(is_async=is_async)
        server = log.server()
        await server.start()
        client = await open_at(server)
        await until(lambda: log.calls)
        draining = asyncio.create_task(server.drain(0))
        assert await client.closed() == (1012, close_text(DRAINED, DRAINED.retry_after))
        await draining
        assert log.calls == [
            ("connect", "/ws"),
            ("leaving", 5.0),
            ("close", 1012, close_text(DRAINED, DRAINED.retry_after)),
        ]
        assert len(set(log.connections)) == 1

    run_guarded(main())


def test_handlers_that_were_not_given_are_not_missed() -> None:
    async def main() -> None:
        server = Server(QUICK)
        await server.start()
        client = await open_at(server)
        await client.say("nobody hears this")
        draining = asyncio.create_task(server.drain(0))
        assert (await client.closed())[0] == 1012
        await draining

    run_guarded(main())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("which", ["on_connect", "on_message"])
def test_handler_that_raises_closes_its_connection_and_is_logged(
    which: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("of the handler")

    async def fail_later(*_: object) -> None:
        await asyncio.sleep(0)
        raise RuntimeError("of the handler")

    async def main() -> None:
        handler: Any = fail_later if is_async else fail
        handlers: dict[str, Any] = {which: handler}
        async with Server(QUICK, **handlers) as server:
            client = await open_at(server)
            await client.say("hello")
            assert await client.closed() == (1011, close_text(HANDLER_ERROR, 5))

    run_guarded(main())
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "of the handler"


def test_handler_for_zone_changes_is_given_the_change() -> None:
    async def main() -> None:
        changes: list[Any] = []
        settings = {**QUICK, "limits": {"connections": 1}, "shedding": {"enabled": True}}
        async with Server(settings, on_zone_change=changes.append) as server:
            client = await open_at(server)
            await until(lambda: changes)
            assert changes[0].driver == "connections"
            client.leave()

    run_guarded(main())


def test_handler_for_http_answers_what_asks_for_no_websocket() -> None:
    def http(request: Request) -> bytes | None:
        return http_response(200, b"here") if request.path == "/here" else None

    async def main() -> None:
        async with Server(QUICK, http=http) as server:
            for path, status in (("/here", 200), ("/there", 404)):
                client = await Client.at(server.addresses[0][1])
                await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                response = await client.response()
                assert response.status == status
                assert (response.body == b"here") is (status == 200)
                client.leave()

    run_guarded(main())


@pytest.mark.parametrize(
    ("offered", "agreed"), [("two, one", "one"), ("two", "two"), ("three", None), (None, None)]
)
def test_subprotocols_are_agreed_on_by_the_servers_preference(
    offered: str | None, agreed: str | None
) -> None:
    async def main() -> None:
        async with Server(QUICK, subprotocols=["one", "two"]) as server:
            client = await Client.at(server.addresses[0][1])
            response = await client.ask(offered)
            assert response.headers.get("sec-websocket-protocol") == agreed
            (connection,) = server.connections
            assert connection.subprotocol == agreed
            client.leave()

    run_guarded(main())


# A connection.


def test_connection_says_what_is_known_of_it() -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            clients = [await open_at(server) for _ in range(2)]
            first, second = sorted(server.connections, key=lambda each: each.number)
            assert (first.number, second.number) == (1, 2)
            assert first.id != second.id
            assert (first.address, first.path) == ("127.0.0.1", "/ws")
            assert (first.user, first.tier, first.subprotocol, first.context) == (None,) * 4
            assert (first.open, first.closed, first.buffered) == (True, False, 0)
            assert repr(first) == f"<Connection {first.id} 127.0.0.1>"
            first.context = "mine"
            clients[0].leave()
            await until(lambda: first.closed)
            # What was known stays known.
            assert (first.open, first.number, first.context) == (False, 1, "mine")
            clients[1].leave()

    run_guarded(main())


def test_connection_that_is_closed_by_a_handler_says_what_that_said() -> None:
    async def main() -> None:
        async with Server(
            QUICK, on_message=lambda connection, message: connection.close(4002, str(message))
        ) as server:
            client = await open_at(server)
            (connection,) = server.connections
            await client.say("not now")
            assert await client.closed() == (4002, "not now")
            await until(lambda: connection.closed)
            connection.close()
            connection.send("nobody")
            connection.abort()
            assert server.stats().disconnections["normal"] == 1

    run_guarded(main())


def test_connection_that_is_aborted_ends_without_a_close_frame() -> None:
    async def main() -> None:
        async with Server(QUICK, on_message=lambda connection, _: connection.abort()) as server:
            client = await open_at(server)
            await client.say("hello")
            with pytest.raises((EOFError, ConnectionResetError)):
                await client.frame()
            assert server.stats().disconnections["aborted"] == 1

    run_guarded(main())


@pytest.mark.parametrize("code", [1006, 999, 5000, 1004])
def test_connection_refuses_to_close_with_a_code_that_may_not_be_sent(code: int) -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            client = await open_at(server)
            (connection,) = server.connections
            with pytest.raises(UsageError):
                connection.close(code)
            assert connection.open
            client.leave()

    run_guarded(main())


@pytest.mark.parametrize("how", ["close frame", "leave", "reset", "abort", "stop"])
def test_wait_closed_in_a_handler_returns_when_its_client_is_gone(how: str) -> None:
    async def main() -> None:
        seen: list[tuple[bool, int]] = []

        async def on_message(connection: Connection, message: str | bytes) -> None:
            await connection.wait_closed()
            seen.append((connection.open, server.stats().connections.current))

        server = Server(QUICK, on_message=on_message)
        async with server:
            client = await open_at(server)
            (connection,) = server.connections
            await client.say("wait", "behind")
            await until(lambda: server.stats().messages.received >= 1)
            outside = [asyncio.create_task(connection.wait_closed()) for _ in range(3)]
            await asyncio.sleep(0)
            outside[0].cancel()
            if how == "close frame":
                await client.send(frame(CLOSE, b"\x03\xe8"))
            elif how == "abort":
                connection.abort()
            elif how == "stop":
                stop = asyncio.create_task(server.stop())
                assert (await client.closed())[0] == 1001
            else:
                getattr(client, how)()
            done = await asyncio.gather(*outside, return_exceptions=True)
            assert [type(each) for each in done] == [asyncio.CancelledError, type(None), type(None)]
            await until(lambda: seen)
            assert seen[0] == (False, 0)
            await connection.wait_closed()
            if how == "stop":
                await stop

    run_guarded(main())


@pytest.mark.parametrize("cancels", [True, False])
def test_cancel_handlers_cancels_the_handler_of_a_client_that_closes(cancels: bool) -> None:
    async def main() -> None:
        begun = asyncio.Event()
        go_on = asyncio.Event()
        seen: list[object] = []

        async def on_message(connection: Connection, message: str | bytes) -> None:
            begun.set()
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
            seen.append(message)

        async with Server(
            QUICK,
            on_message=on_message,
            on_close=lambda connection, code, text: seen.append(code),
            cancel_handlers=cancels,
        ) as server:
            client = await open_at(server)
            await client.say("first", "second")
            await begun.wait()
            await client.send(frame(CLOSE, b"\x03\xe8"))
            assert (await client.frame()).code == 1000
            await until(lambda: server.stats().connections.current == 0)
            go_on.set()
            await until(lambda: 1000 in seen)
            assert seen == (["cancelled", 1000] if cancels else ["first", "second", 1000])

    run_guarded(main())
