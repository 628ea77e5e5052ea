"""Who attempts belong to, by a function: before the WebSocket is open, and without a lease lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from time import time
from typing import Any

import pytest

from tests.support import SECRET_DETAIL
from tests.support.clients import Client, run_guarded, until
from tests.support.jwks import JwksServer
from tests.support.raw import Response
from tidegate import Connection, Identity, Refused, Request, Server, UsageError, claims, refuse
from tidegate.core.codes import (
    DECISION_TIMEOUT,
    INTERNAL_ERROR,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    USER_LIMIT,
)
from tidegate.core.settings import Settings
from tidegate.gate.tokens import create_token

SECRET = "a secret of at least 32 bytes, for tests"
SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 0.2},
    "pacing": {"enabled": False},
}


async def knock(server: Server, **request: Any) -> tuple[Client, Response]:
    client = await Client.at(server.addresses[0][1])
    return client, await client.ask(**request)


def users(server: Server) -> list[str | None]:
    return [connection.user for connection in server.connections]


def returning(answer: Any, *, is_async: bool) -> Callable[[Request], Any]:
    def plain(request: Request) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def late(request: Request) -> Any:
        await asyncio.sleep(0)
        return plain(request)

    return late if is_async else plain


def reason(response: Response) -> str:
    name: str = json.loads(response.body)["error"]
    return name


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("answer", "user", "tier"),
    [
        (Identity("ann", "premium", 3), "ann", "premium"),
        ("ann", "ann", None),
        (None, None, None),
        (Identity(), None, None),
    ],
)
def test_identity_is_what_the_function_returns(
    answer: Any, user: str | None, tier: str | None, is_async: bool
) -> None:
    async def main() -> None:
        async with Server({**SETTINGS, "tiers": {"premium": {"connections": 5}}}) as server:
            server.identify(returning(answer, is_async=is_async))
            client, response = await knock(server)
            assert response.status == 101
            (connection,) = server.connections
            assert (connection.user, connection.tier) == (user, tier)
            client.leave()
            await until(lambda: not server.stats().connections.current)

    run_guarded(main())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("raises", [False, True])
def test_refusal_is_told_and_holds_nothing(raises: bool, is_async: bool) -> None:
    async def main() -> None:
        refusal = refuse("forbidden", 30)

        async def late(request: Request) -> Refused:
            if raises:
                raise refusal
            return refusal

        def plain(request: Request) -> Refused:
            if raises:
                raise refusal
            return refusal

        async with Server(SETTINGS) as server:
            server.identify(late if is_async else plain)
            client, response = await knock(server)
            assert response.status == 403
            assert reason(response) == "forbidden"
            assert response.headers["retry-after"] == "30"
            client.leave()
            assert server.stats().connections.current == 0
            assert server.stats().rejections["forbidden"] == 1

    run_guarded(main())


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        RuntimeError(SECRET_DETAIL),
        5,
        True,
        b"ann",
        "",
        "a\nb",
        "x" * 5000,
        Identity("ann", "\0"),
        Identity("ann", None, 101),
        Identity("ann", None, 0, "never"),  # type: ignore[arg-type]
        Refused("made up", "of nothing"),
    ],
)
def test_what_the_function_does_wrong_is_logged_once_and_refused(
    answer: Any, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Server(SETTINGS) as server:
            server.identify(returning(answer, is_async=is_async))
            client, response = await knock(server)
            assert response.status == INTERNAL_ERROR.status
            assert reason(response) == "internal_error"
            assert SECRET_DETAIL.encode() not in response.body
            client.leave()
            assert server.stats().connections.current == 0
            failures = [record for record in caplog.records if record.exc_info is not None]
            assert len(failures) == 1

    run_guarded(main())


def test_nobody_is_refused_where_anonymous_clients_may_not_connect() -> None:
    async def main() -> None:
        settings = {**SETTINGS, "auth": {"anonymous": False, "secret": SECRET}}
        async with Server(settings) as server:
            server.identify(returning(None, is_async=False))
            _, response = await knock(server)
            assert (response.status, reason(response)) == (UNAUTHORIZED.status, "unauthorized")

    run_guarded(main())


def test_limits_of_a_user_hold_for_users_of_the_function() -> None:
    async def main() -> None:
        async with Server({**SETTINGS, "limits": {"per_user": 1}}) as server:
            server.identify(lambda request: request.headers["x-user"])
            first, response = await knock(server, headers=[("X-User", "ann")])
            assert response.status == 101
            _, response = await knock(server, headers=[("X-User", "ann")])
            assert reason(response) == USER_LIMIT.name
            _, response = await knock(server, headers=[("X-User", "bob")])
            assert response.status == 101
            first.leave()
            await until(lambda: users(server) == ["bob"])

    run_guarded(main())


def test_request_shows_what_a_login_needs() -> None:
    async def main() -> None:
        seen: list[Request] = []
        async with Server({**SETTINGS, "proxies": {"trusted": ["127.0.0.1"]}}) as server:
            server.identify(lambda request: seen.append(request))
            headers = [("Cookie", "session=abc"), ("X-Forwarded-For", "203.0.113.7")]
            await knock(server, path="/ws?key=1", headers=headers)
            (request,) = seen
            assert request.cookies == {"session": "abc"}
            assert request.query_params["key"] == "1"
            assert (request.method, request.path) == ("GET", "/ws")
            assert request.address == "203.0.113.7"

    run_guarded(main())


def test_identity_that_ends_closes_the_connection() -> None:
    async def main() -> None:
        async with Server(SETTINGS) as server:
            server.identify(lambda request: Identity("ann", expires_at=time() + 0.2))
            client, response = await knock(server)
            assert response.status == 101
            assert (await client.closed())[0] == TOKEN_EXPIRED.code

    run_guarded(main())


def test_client_that_leaves_has_the_function_cancelled() -> None:
    async def main() -> None:
        seen: list[str] = []

        async def who(request: Request) -> None:
            seen.append("asked")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        async with Server(SETTINGS) as server:
            server.identify(who)
            client = await Client.at(server.addresses[0][1])
            await client.knock()
            await until(lambda: seen)
            client.leave()
            await until(lambda: seen == ["asked", "cancelled"])
            assert server.stats().connections.current == 0

    run_guarded(main())


def test_function_that_takes_too_long_is_cancelled_and_the_attempt_refused() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def who(request: Request) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        server = {**SETTINGS["server"], "handshake_timeout": 0.3}
        async with Server({**SETTINGS, "server": server}) as served:
            served.identify(who)
            _, response = await knock(served)
            assert response.status == DECISION_TIMEOUT.status
            assert reason(response) == "decision_timeout"
            await ended.wait()
            assert served.stats().connections.current == 0

    run_guarded(main())


def test_function_that_is_cancelled_from_within_is_an_error_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async def who(request: Request) -> None:
            raise asyncio.CancelledError

        async with Server(SETTINGS) as server:
            server.identify(who)
            _, response = await knock(server)
            assert reason(response) == "internal_error"
            assert "was cancelled by what it called" in caplog.text
            server_lives, response = await knock(server)
            assert reason(response) == "internal_error"
            server_lives.leave()

    run_guarded(main())


def test_stop_ends_functions_that_are_at_work() -> None:
    async def main() -> None:
        ended = asyncio.Event()
        asked: list[Request] = []

        async def who(request: Request) -> None:
            asked.append(request)
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()

        async with Server(SETTINGS) as server:
            server.identify(who)
            client = await Client.at(server.addresses[0][1])
            await client.knock()
            await until(lambda: asked)
        await ended.wait()

    run_guarded(main())


def test_token_identity_is_what_the_token_says() -> None:
    async def main() -> None:
        settings = Settings.from_mapping({**SETTINGS, "auth": {"secret": SECRET}})
        server = Server(settings)

        @server.identify
        async def who(request: Request) -> Identity | str:
            if "x-key" in request.headers:
                return "by key"
            return server.token_identity(request)

        token = create_token(
            settings.auth, user="ann", tier=None, priority=0, lifetime_seconds=60.0, now=time()
        )
        async with server:
            for headers, user in (
                ([("X-Key", "1")], "by key"),
                ([("Authorization", f"Bearer {token}")], "ann"),
                ([], None),
            ):
                client, response = await knock(server, headers=headers)
                assert response.status == 101
                assert users(server) == [user]
                client.leave()
                await until(lambda: not users(server))
            _, response = await knock(server, headers=[("Authorization", "Bearer wrong")])
            assert reason(response) == "unauthorized"

    run_guarded(main())


def test_claim_join_puts_a_connection_into_rooms_before_on_connect_is_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        server = Server(SETTINGS, per_room=1)
        seen: list[tuple[str, ...]] = []

        @server.identify
        def who(request: Request) -> Identity:
            return Identity("ann", claims=claims(join=["news", "lobby"]))

        @server.on_connect
        def connect(connection: Connection, request: Request) -> None:
            seen.append(tuple(connection.rooms))
            if len(seen) == 2:
                server.room("lobby").send("hello")

        async with server:
            first, _ = await knock(server)
            second, _ = await knock(server)
            await until(lambda: len(seen) == 2)
            assert seen == [("news", "lobby"), ()]
            assert await first.text() == "hello"
            second.leave()

    run_guarded(main())
    assert "is not in a room of its token: room_full" in caplog.text


def test_token_identity_whose_keys_are_fetched_lets_the_client_come_back() -> None:
    async def main(issuer: JwksServer) -> None:
        server = Server({**SETTINGS, "auth": issuer.auth})

        @server.identify
        def who(request: Request) -> Identity:
            return server.token_identity(request)

        async with server:
            headers = [("Authorization", f"Bearer {issuer.token()}")]
            _, response = await knock(server, headers=headers)
            assert (response.status, response.headers["retry-after"]) == (503, "1")
            assert reason(response) == "keys_unavailable"

            async def is_in() -> bool:
                client, response = await knock(server, headers=headers)
                client.leave()
                return response.status == 101

            async with asyncio.timeout(20):
                while not await is_in():
                    await asyncio.sleep(0.05)
            assert await server.revoke("ann") >= 0
            assert not await is_in()
        assert issuer.requests == 1

    with JwksServer() as issuer:
        run_guarded(main(issuer))


# What is checked at once.


def test_second_function_is_refused() -> None:
    server = Server(SETTINGS)
    server.identify(returning(None, is_async=False))
    with pytest.raises(UsageError, match="identify is set already"):
        server.identify(returning(None, is_async=False))


@pytest.mark.parametrize("wrong", [5, lambda: None, lambda a, b: None])
def test_function_that_could_not_be_called_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^identify "):
        Server(SETTINGS).identify(wrong)


@pytest.mark.parametrize("name", ["nobody", "normal", ""])
def test_refuse_takes_names_of_refusals_and_errors_only(name: str) -> None:
    with pytest.raises(UsageError, match="reason must be one of server_limit, "):
        refuse(name)


@pytest.mark.parametrize("delay", [-1.0, float("inf"), float("nan")])
def test_refuse_takes_possible_delays_only(delay: float) -> None:
    with pytest.raises(UsageError, match="retry_after must be 0 or more seconds"):
        refuse("forbidden", delay)


def test_refuse_has_the_delay_of_the_table_by_default() -> None:
    assert refuse("internal_error").retry_after == INTERNAL_ERROR.retry_after
    assert refuse("unauthorized").retry_after is None


# Decorators for the other handlers.


def test_decorators_do_what_the_keywords_do() -> None:
    async def main() -> None:
        server = Server(SETTINGS)
        seen: list[Any] = []

        @server.on_connect
        def connected(connection: Any, request: Request) -> None:
            seen.append(request.path)

        @server.on_message
        def came(connection: Any, message: str | bytes) -> None:
            connection.send(message)

        @server.on_close
        async def gone(connection: Any, code: int, text: str) -> None:
            seen.append(code)

        async with server:
            client, _ = await knock(server)
            await client.say("hello")
            assert await client.text() == "hello"
            await client.close(4321)
            await until(lambda: len(seen) == 2)
        assert seen == ["/ws", 4321]

    run_guarded(main())


@pytest.mark.parametrize(
    "name", ["on_connect", "on_message", "on_close", "on_leaving", "on_zone_change", "http"]
)
def test_decorators_check_at_once_and_take_one_handler(name: str) -> None:
    server = Server(SETTINGS)
    use = getattr(server, name)
    with pytest.raises(TypeError, match=rf"^{name} "):
        use(5)

    def handler(*arguments: Any) -> None: ...

    assert use(handler) is handler
    with pytest.raises(UsageError, match=f"{name} is set already"):
        use(handler)
