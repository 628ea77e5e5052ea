"""One coroutine a connection: its messages, its end, and the ends of its client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import SECRET_DETAIL
from tests.support.clients import Client, run_guarded, until
from tests.support.raw import BINARY, frame
from tidegate import (
    Connection,
    ConnectionClosed,
    Refused,
    Request,
    Server,
    UsageError,
    refuse,
)
from tidegate.core.codes import (
    FORBIDDEN,
    HANDLER_ERROR,
    POLICY,
    ROOM_FULL,
    SHUTDOWN,
    close_text,
)

QUICK: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 0.3},
    "pacing": {"enabled": False},
    "messages": {"per_second": 0},
}


async def at(server: Server, path: str) -> Client:
    return await Client.open(server.addresses[0][1], path=path)


def idle(server: Server) -> bool:
    return not server.stats().connections.current


def test_coroutine_has_the_messages_and_ends_with_the_client() -> None:
    async def main() -> None:
        server = Server(QUICK)
        seen: list[Any] = []

        @server.route("/chat/{room}")
        async def chat(connection: Connection, room: str) -> None:
            connection.send(f"welcome to {room}")
            seen.extend([message async for message in connection])
            seen.append(connection.open)

        async with server:
            client = await at(server, "/chat/a%20b")
            assert await client.text() == "welcome to a b"
            await client.say("one", "two")
            await client.send(frame(BINARY, b"\0"))
            await client.close()
            await until(lambda: len(seen) == 4)
            assert seen == ["one", "two", b"\0", False]
            assert idle(server)

    run_guarded(main())


@pytest.mark.parametrize("end", [Client.leave, Client.reset])
def test_loop_over_messages_ends_when_the_client_is_lost(end: Callable[[Client], None]) -> None:
    async def main() -> None:
        server = Server(QUICK)
        done = asyncio.Event()

        @server.route("/")
        async def serve(connection: Connection) -> None:
            async for _ in connection:
                pass
            done.set()

        async with server:
            end(await at(server, "/"))
            await done.wait()
            assert idle(server)

    run_guarded(main())


def test_receive_tells_how_the_connection_ended() -> None:
    async def main() -> None:
        server = Server(QUICK)
        ended: list[tuple[int, str]] = []

        @server.route("/")
        async def serve(connection: Connection) -> None:
            assert await connection.receive() == "hello"
            for _ in range(2):
                with pytest.raises(ConnectionClosed) as error:
                    await connection.receive()
                ended.append((error.value.code, error.value.text))

        async with server:
            client = await at(server, "/")
            await client.say("hello")
            await client.close(4321)
            await until(lambda: len(ended) == 2)
        assert ended == [(4321, "")] * 2

    run_guarded(main())


def test_coroutine_that_returns_closes_with_1000() -> None:
    async def main() -> None:
        server = Server(QUICK)

        @server.route("/")
        async def serve(connection: Connection) -> None:
            connection.send("once")

        async with server:
            client = await at(server, "/")
            assert await client.text() == "once"
            assert await client.closed() == (1000, "")
            await until(lambda: idle(server))

    run_guarded(main())


def test_coroutine_that_raises_closes_with_1011_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        server = Server(QUICK)

        @server.route("/")
        async def serve(connection: Connection) -> None:
            await connection.receive()
            raise RuntimeError(SECRET_DETAIL)

        async with server:
            client = await at(server, "/")
            await client.say("one", "two", "three")
            expected = close_text(HANDLER_ERROR, HANDLER_ERROR.retry_after)
            assert await client.closed() == (1011, expected)
            await until(lambda: idle(server))
        (record,) = [each for each in caplog.records if each.exc_info]
        assert "a handler of connection" in record.getMessage()

    run_guarded(main())


def test_end_of_the_client_that_a_coroutine_lets_out_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        server = Server(QUICK)

        @server.route("/")
        async def serve(connection: Connection) -> None:
            while True:
                connection.send(await connection.receive())

        async with server:
            client = await at(server, "/")
            await client.say("echo")
            assert await client.text() == "echo"
            await client.close()
            await until(lambda: idle(server))
            await asyncio.sleep(0)
        assert not caplog.records

    run_guarded(main())


@pytest.mark.parametrize(
    ("raised", "closed"),
    [
        (None, (4002, close_text(ROOM_FULL, ROOM_FULL.retry_after))),
        (refuse("forbidden", 30), (4503, close_text(FORBIDDEN, 30))),
        (Refused("own", "Not today"), (1008, close_text(POLICY, None, "Not today"))),
    ],
)
def test_refusal_that_a_coroutine_lets_out_is_the_reason_of_the_close(
    raised: Refused | None, closed: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server = Server(QUICK, per_room=1)

        @server.route("/{room}")
        async def serve(connection: Connection, room: str) -> None:
            async with connection.join(room):
                connection.send("joined")
                await connection.wait_closed()

        @server.route("/")
        async def refuses(connection: Connection) -> None:
            assert raised is not None
            raise raised

        async with server:
            if raised is None:
                first = await at(server, "/a")
                assert await first.text() == "joined"
            second = await at(server, "/a" if raised is None else "/")
            assert await second.closed() == closed
        assert not caplog.records

    run_guarded(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_refusal_that_a_callback_lets_out_is_the_reason_of_the_close(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server = Server(QUICK)

        def plain(connection: Connection, request: Request) -> None:
            raise refuse("forbidden")

        async def late(connection: Connection, request: Request) -> None:
            raise refuse("forbidden")

        server.on_connect(late if is_async else plain)
        async with server:
            client = await Client.open(server.addresses[0][1])
            assert await client.closed() == (4503, close_text(FORBIDDEN, None))
        assert not caplog.records

    run_guarded(main())


@pytest.mark.parametrize("full", [False, True])
def test_coroutine_that_goes_on_after_its_client_is_cancelled(
    full: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server = Server(QUICK)
        seen: list[str] = []

        @server.route("/")
        async def serve(connection: Connection) -> None:
            seen.append("began")
            try:
                await asyncio.sleep(60)
            finally:
                seen.append("cancelled")

        async with server:
            client = await at(server, "/")
            await client.say(*(["more"] * (100 if full else 1)))
            await until(lambda: seen)
            await client.close()
            await until(lambda: idle(server))
            await until(lambda: len(seen) == 2)
            await until(lambda: not server._node.engine.at_work)
        assert "goes on after its client has left" in caplog.text

    run_guarded(main())


def test_stop_closes_and_ends_coroutines() -> None:
    async def main() -> None:
        server = Server(QUICK)
        ended: list[str] = []

        @server.route("/loop")
        async def loop(connection: Connection) -> None:
            async for _ in connection:
                pass
            ended.append("loop")

        @server.route("/stuck")
        async def stuck(connection: Connection) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("stuck")

        async with server:
            first, second = await at(server, "/loop"), await at(server, "/stuck")
            stopping = asyncio.create_task(server.stop(timeout=0.5))
            expected = (1001, close_text(SHUTDOWN, SHUTDOWN.retry_after))
            assert await first.closed() == expected
            assert await second.closed() == expected
            await stopping
        assert ended == ["loop", "stuck"]

    run_guarded(main())


def test_cancel_handlers_cancels_at_once_what_is_not_in_its_loop() -> None:
    async def main() -> None:
        server = Server({**QUICK, "server": {"port": 0}}, cancel_handlers=True)
        seen: list[str] = []

        @server.route("/loop")
        async def loop(connection: Connection) -> None:
            async for _ in connection:
                pass
            seen.append("loop")

        @server.route("/work")
        async def work(connection: Connection) -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        async with server:
            for path in ("/loop", "/work"):
                client = await at(server, path)
                await client.say("hello")
                await client.close()
            await until(lambda: seen == ["loop", "cancelled"])

    run_guarded(main())


def test_what_a_coroutine_does_not_take_stops_reading_and_nothing_is_lost() -> None:
    async def main() -> None:
        server = Server(QUICK)
        go_on = asyncio.Event()
        got: list[str | bytes] = []

        @server.route("/slow")
        async def slow(connection: Connection) -> None:
            await go_on.wait()
            got.extend([message async for message in connection])

        @server.route("/quick")
        async def quick(connection: Connection) -> None:
            async for message in connection:
                connection.send(message)

        async with server:
            client, other = await at(server, "/slow"), await at(server, "/quick")
            messages = [f"{number} ".ljust(30_000, "x") for number in range(1000)]
            sending = asyncio.create_task(client.say(*messages))
            for _ in range(50):  # the others go on
                await other.say("ping")
                assert await other.text() == "ping"
            assert not sending.done()  # 30 MB do not fit into the kernel and 64 KiB of ours
            connection = next(each for each in server.connections if each.path == "/slow")
            assert connection._inbox is not None
            assert len(connection._inbox._messages) <= 33
            go_on.set()
            await sending
            await client.close()
            await until(lambda: len(got) == 1000)
            assert got == messages

    run_guarded(main())


def test_messages_before_the_close_are_taken_after_it() -> None:
    async def main() -> None:
        server = Server(QUICK)
        go_on = asyncio.Event()
        got: list[str | bytes] = []

        @server.route("/")
        async def serve(connection: Connection) -> None:
            await go_on.wait()
            got.extend([message async for message in connection])
            got.append("end")

        async with server:
            client = await at(server, "/")
            await client.say(*map(str, range(100)))
            await client.close()
            await until(lambda: idle(server))
            go_on.set()
            await until(lambda: "end" in got)
        assert got == [*map(str, range(100)), "end"]

    run_guarded(main())


def test_cancelled_receive_loses_no_message() -> None:
    async def main() -> None:
        server = Server(QUICK)

        @server.route("/")
        async def serve(connection: Connection) -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.receive(), 0.01)
            connection.send("waiting")
            connection.send(await connection.receive())

        async with server:
            client = await at(server, "/")
            assert await client.text() == "waiting"
            await client.say("hello")
            assert await client.text() == "hello"
            assert await client.closed() == (1000, "")

    run_guarded(main())


def test_second_task_that_receives_is_an_error() -> None:
    async def main() -> None:
        server = Server(QUICK)
        errors: list[UsageError] = []

        @server.route("/")
        async def serve(connection: Connection) -> None:
            first = asyncio.create_task(connection.receive())
            await asyncio.sleep(0)
            try:
                await connection.receive()
            except UsageError as error:
                errors.append(error)
            connection.send(await first)

        async with server:
            client = await at(server, "/")
            await until(lambda: errors)
            await client.say("hello")
            assert await client.text() == "hello"
        assert "another task waits" in str(errors[0])

    run_guarded(main())


def test_receive_without_a_route_is_an_error() -> None:
    async def main() -> None:
        async with Server(QUICK) as server:
            await Client.open(server.addresses[0][1])
            (connection,) = server.connections
            with pytest.raises(UsageError, match="receive in a route"):
                await connection.receive()

    run_guarded(main())


def test_handler_gets_the_request_if_it_has_such_a_parameter() -> None:
    async def main() -> None:
        server = Server(QUICK)

        @server.route("/users/{number}")
        async def serve(connection: Connection, request: Request, number: int) -> None:
            connection.send(f"{number + 1} {request.query_params['a']} {request.address}")

        async with server:
            client = await at(server, "/users/41?a=b")
            assert await client.text() == "42 b 127.0.0.1"

    run_guarded(main())


@pytest.mark.parametrize(
    ("callbacks", "path", "status"),
    [
        (False, "/known", 101),
        (False, "/n/5", 101),
        (False, "/n/x", 404),
        (False, "/ws", 404),
        (False, "/", 404),
        (True, "/known", 101),
        (True, "/ws", 101),
        (True, "/", 404),
    ],
)
def test_path_without_a_route_is_not_found(callbacks: bool, path: str, status: int) -> None:
    async def main() -> None:
        server = Server(QUICK)

        @server.route("/known")
        async def known(connection: Connection) -> None:
            await connection.wait_closed()

        @server.route("/n/{number}")
        async def number(connection: Connection, number: int) -> None:
            await connection.wait_closed()

        if callbacks:
            server.on_message(Connection.send)

        async with server:
            client = await Client.at(server.addresses[0][1])
            response = await client.ask(path=path)
            assert response.status == status
            if status == 404:
                assert json.loads(response.body)["error"] == "not_found"
                assert server.stats().rejections["not_found"] == 1
            elif path == "/ws":
                await client.say("hello")
                assert await client.text() == "hello"

    run_guarded(main())
