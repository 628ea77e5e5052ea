"""A node whose identifier answers late: what the client gets, and that nothing stays behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest

from tests.support.clients import Client, run_guarded, until
from tests.support.raw import CLOSE, TEXT, Response, frame, upgrade
from tidegate.core.admission.attempt import ANONYMOUS, Identity
from tidegate.core.codes import (
    DECISION_TIMEOUT,
    DRAINING,
    INTERNAL_ERROR,
    IP_LIMIT,
    PENDING_LIMIT,
    UNAUTHORIZED,
    USER_LIMIT,
    Refusal,
    close_text,
    http_body,
)
from tidegate.core.settings import Settings
from tidegate.engine.application import Application
from tidegate.engine.connection import Connection
from tidegate.gate.decision import OpeningRequest
from tidegate.gate.identity import Later
from tidegate.node.node import Node
from tidegate.wire.codecs import JSON_V1
from tidegate.wire.handshake import Request

Outcome = Identity | Refusal | Exception
TOKEN = ("Authorization", "Bearer of whatever")
SECRET_DETAIL = "the password of the database"


class Promise:
    """A `Later`, as an application that asks a database would return it."""

    def __init__(self, outcome: Outcome | None) -> None:
        self.outcome = outcome
        self.ready: Callable[[], None] = lambda: None
        self.taken = 0
        self.cancelled = 0

    def then(self, ready: Callable[[], None], /) -> None:
        self.ready = ready
        if self.outcome is not None:
            ready()

    def result(self) -> Identity | Refusal:
        self.taken += 1
        assert self.outcome is not None, "asked before it was ready"
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def cancel(self) -> None:
        self.cancelled += 1

    def keep(self, outcome: Outcome) -> None:
        """Answer, whether or not anybody still waits."""
        self.outcome = outcome
        self.ready()


class LateIdentifier:
    """Promises an identity to every attempt with a token."""

    def __init__(self) -> None:
        self.promises: list[Promise] = []
        self.kept_with: Outcome | None = None
        """What promises are kept with before they are returned."""
        self.error: Exception | None = None

    def identify(self, request: OpeningRequest, /) -> Identity | Later:
        if request.token is None:
            return ANONYMOUS
        if self.error is not None:
            raise self.error
        self.promises.append(Promise(self.kept_with))
        return self.promises[-1]


class Echo(Application[Connection]):
    """Sends every message back; clients of its subprotocol are told refusals in-band."""

    subprotocols = (JSON_V1,)
    in_band = frozenset((JSON_V1,))

    def __init__(self) -> None:
        self.users: list[str | None] = []
        self.ended = 0

    def opened(self, connection: Connection, request: Request, /) -> None:
        self.users.append(connection.user)

    def message(self, connection: Connection, message: str | bytes, /) -> None:
        connection.send(message)

    def closed(self, connection: Connection, code: int, text: str, /) -> None:
        self.ended += 1


class World:
    """A node with a late identifier and its clients; use it as an async context manager."""

    def __init__(self, **sections: dict[str, Any]) -> None:
        server = {"port": 0, "shutdown_timeout": 1.0, **sections.pop("server", {})}
        settings = Settings.from_mapping(
            {"server": server, "pacing": {"enabled": False}, **sections}
        )
        self.identifier = LateIdentifier()
        self.echo = Echo()
        self.node = Node(settings, lambda _services: self.echo, identifier=self.identifier)
        self.clients: list[Client] = []

    async def __aenter__(self) -> World:
        await self.node.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        if error[0] is None:
            self.balances()
        for client in self.clients:
            client.leave()
        await self.node.stop()
        if error[0] is None:
            self.balances()
            assert self.node.tracker.open == 0
            assert {promise.taken + promise.cancelled for promise in self.promises} <= {1}
            assert self.echo.ended == len(self.echo.users) == self.node.stats.accepted

    def balances(self) -> None:
        """Assert that nothing is parked, and that nobody holds a lease but open connections."""
        shared = self.node.engine.shared
        assert shared.pending == 0
        assert len(shared.openings) == len(shared.unfinished) == 0
        assert self.node.tracker.open == len(list(self.node.connections))

    @property
    def promises(self) -> list[Promise]:
        return self.identifier.promises

    @property
    def pending(self) -> int:
        return self.node.engine.shared.pending

    def refused(self) -> dict[str, int]:
        return {reason: count for reason, count in self.node.stats.rejected.items() if count}

    async def client(self) -> Client:
        client = await Client.at(self.node.addresses[0][1])
        self.clients.append(client)
        return client

    async def park(
        self, protocol: str | None = None, behind: bytes = b"", headers: Any = (TOKEN,)
    ) -> tuple[Client, Promise]:
        """A client whose attempt waits for its decision."""
        count = len(self.promises)
        client = await self.client()
        await client.knock(protocol, behind, headers=headers)
        await until(lambda: len(self.promises) > count and self.pending > 0)
        return client, self.promises[-1]


def of(number: int) -> tuple[tuple[str, str], ...]:
    """Headers of a client behind a proxy, with an address of its own."""
    return (TOKEN, ("X-Forwarded-For", f"192.0.2.{number}"))


def refused_by(response: Response, reason: Refusal) -> None:
    assert response.status == reason.status
    assert response.headers["x-rejection-reason"] == reason.name
    assert response.body == http_body(reason, reason.retry_after)
    if reason.retry_after is not None:
        assert response.headers["retry-after"] == str(reason.retry_after)


async def refused_in_band(client: Client, reason: Refusal) -> None:
    """What a client is told that offered a subprotocol in which it can be."""
    response = await client.response()
    assert (response.status, response.headers["sec-websocket-protocol"]) == (101, JSON_V1)
    assert await client.closed() == (reason.code, close_text(reason, reason.retry_after))
    assert await client.end() == b""


# Admitted.


@pytest.mark.parametrize("protocol", [None, JSON_V1])
def test_decision_that_admits_late_opens_the_connection(protocol: str | None) -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park(protocol)
            assert (world.pending, world.node.engine.opening, world.node.tracker.open) == (1, 1, 0)
            promise.keep(Identity("ann"))
            response = await client.response()
            assert response.status == 101
            assert response.headers.get("sec-websocket-protocol") == protocol
            await client.say("hello")
            assert await client.text() == "hello"
            assert world.echo.users == ["ann"]
            assert world.node.tracker.user_count("ann") == 1
            assert "ann" in world.node.users
            world.balances()
            await client.close()

    run_guarded(main())


def test_decision_that_is_known_at_once_opens_the_connection() -> None:
    async def main() -> None:
        async with World() as world:
            world.identifier.kept_with = Identity("ann")
            client = await world.client()
            assert (await client.ask(headers=[TOKEN])).status == 101
            await until(lambda: world.echo.users == ["ann"])

    run_guarded(main())


def test_decision_that_admits_late_loses_no_message_that_was_sent_ahead() -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park(behind=frame(TEXT, b"with the request"))
            seen = world.node.engine.shared.poller.table
            # In pieces, so that frames come in parts and over several reads.
            ahead = b"".join(frame(TEXT, f"ahead {number}".encode()) for number in range(50))
            for start in range(0, len(ahead), 97):
                await client.send(ahead[start : start + 97])
            entry: Any = next(each for each in seen if type(each).__name__ == "Parked")
            whole = len(frame(TEXT, b"with the request")) + len(ahead)
            await until(lambda: len(entry._request.rest) == whole)
            promise.keep(Identity("ann"))
            await client.say("afterwards")
            assert (await client.response()).status == 101
            expected = ["with the request", *(f"ahead {n}" for n in range(50)), "afterwards"]
            assert [await client.text() for _ in expected] == expected

    run_guarded(main())


def test_decision_that_admits_late_sees_a_close_that_was_sent_ahead() -> None:
    async def main() -> None:
        async with World() as world:
            behind = frame(TEXT, b"hello") + frame(CLOSE, (1000).to_bytes(2))
            client, promise = await world.park(behind=behind)
            promise.keep(Identity("ann"))
            assert (await client.response()).status == 101
            assert await client.text() == "hello"
            assert (await client.frame()).code == 1000
            assert await client.end() == b""
            await until(lambda: world.echo.ended == 1)
            assert world.node.stats.disconnected["normal"] == 1

    run_guarded(main())


def test_decisions_of_many_come_in_any_order_each_to_its_client() -> None:
    async def main() -> None:
        async with World() as world:
            parked = [await world.park() for _ in range(20)]
            assert world.pending == 20
            for number in (*range(1, 20, 2), *range(18, -1, -2)):
                parked[number][1].keep(Identity(f"user {number}"))
            for client, _ in parked:
                assert (await client.response()).status == 101
            assert sorted(map(str, world.echo.users)) == sorted(f"user {n}" for n in range(20))
            world.balances()
            assert world.node.tracker.open == 20
            for number, (client, _) in enumerate(parked):
                await client.say(str(number))
                assert await client.text() == str(number)

    run_guarded(main())


def test_decision_holds_up_no_other_attempt() -> None:
    async def main() -> None:
        async with World() as world:
            late, promise = await world.park()
            client = await world.client()
            assert (await client.ask()).status == 101
            await client.say("meanwhile")
            assert await client.text() == "meanwhile"
            assert world.pending == 1
            promise.keep(Identity("ann"))
            assert (await late.response()).status == 101

    run_guarded(main())


# Refused.


@pytest.mark.parametrize("reason", [UNAUTHORIZED, USER_LIMIT])
def test_decision_that_refuses_late_is_told_by_http(reason: Refusal) -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park()
            promise.keep(reason)
            refused_by(await client.response(), reason)
            assert await client.end() == b""
            assert world.refused() == {reason.name: 1}

    run_guarded(main())


@pytest.mark.parametrize("reason", [UNAUTHORIZED, USER_LIMIT])
def test_decision_that_refuses_late_is_told_in_band_where_that_was_offered(
    reason: Refusal,
) -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park(JSON_V1)
            promise.keep(reason)
            await refused_in_band(client, reason)
            assert world.refused() == {reason.name: 1}
            assert world.echo.users == []

    run_guarded(main())


def test_decision_about_a_late_identity_looks_at_its_limits() -> None:
    async def main() -> None:
        async with World(limits={"per_user": 1}) as world:
            (first, one), (second, two) = await world.park(), await world.park()
            one.keep(Identity("ann"))
            assert (await first.response()).status == 101
            two.keep(Identity("ann"))
            assert (await second.response()).status == USER_LIMIT.status
            assert world.node.tracker.user_count("ann") == 1

    run_guarded(main())


# Never decided.


@pytest.mark.parametrize("protocol", [None, JSON_V1])
def test_decision_that_never_comes_is_given_up_at_the_deadline_of_the_handshake(
    protocol: str | None,
) -> None:
    async def main() -> None:
        async with World(server={"handshake_timeout": 0.3}) as world:
            began = monotonic()
            client, promise = await world.park(protocol)
            if protocol is None:
                refused_by(await client.response(), DECISION_TIMEOUT)
                assert await client.end() == b""
            else:
                await refused_in_band(client, DECISION_TIMEOUT)
            assert 0.25 < monotonic() - began < 2.0
            assert world.refused() == {"decision_timeout": 1}
            assert (promise.taken, promise.cancelled) == (0, 1)
            # The answer that comes at last changes nothing.
            promise.keep(Identity("ann"))
            world.balances()

    run_guarded(main())


# The application fails.


@pytest.mark.parametrize("protocol", [None, JSON_V1])
def test_decision_that_raises_is_logged_and_nothing_of_it_is_shown(
    protocol: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park(protocol)
            promise.keep(RuntimeError(SECRET_DETAIL))
            if protocol is None:
                refused_by(await client.response(), INTERNAL_ERROR)
                assert await client.end() == b""
            else:
                await refused_in_band(client, INTERNAL_ERROR)
            assert world.refused() == {"internal_error": 1}
            # The node goes on.
            client, promise = await world.park(protocol)
            promise.keep(Identity("ann"))
            assert (await client.response()).status == 101

    run_guarded(main())
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert SECRET_DETAIL in str(record.exc_info[1])


def test_identifier_that_raises_is_logged_and_nothing_of_it_is_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with World() as world:
            world.identifier.error = RuntimeError(SECRET_DETAIL)
            client = await world.client()
            refused_by(await client.ask(headers=[TOKEN]), INTERNAL_ERROR)
            assert await client.end() == b""
            assert world.refused() == {"internal_error": 1}

    run_guarded(main())
    (record,) = caplog.records
    assert record.exc_info is not None
    assert SECRET_DETAIL in str(record.exc_info[1])


# The client leaves.


@pytest.mark.parametrize("leave", [Client.leave, Client.reset])
@pytest.mark.parametrize("behind", [b"", frame(TEXT, b"hello")])
def test_client_that_leaves_cancels_its_decision_at_once(
    leave: Callable[[Client], None], behind: bytes
) -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park(behind=behind)
            leave(client)
            await until(lambda: promise.cancelled)
            assert promise.taken == 0
            world.balances()
            # An answer after that changes nothing.
            promise.keep(Identity("ann"))
            other = await world.client()
            assert (await other.ask()).status == 101
            assert world.echo.users == [None]
            assert world.node.stats.accepted == 1
            assert world.refused() == {}

    run_guarded(main())


def test_client_that_leaves_as_its_decision_comes_gives_its_lease_back() -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park()
            promise.keep(Identity("ann"))
            client.reset()
            await until(lambda: promise.taken)
            await until(lambda: world.echo.ended == len(world.echo.users))
            await until(lambda: world.node.tracker.open == 0)
            assert sum(world.node.stats.disconnected.values()) == world.node.stats.accepted

    run_guarded(main())


def test_client_that_sends_too_much_ahead_is_dropped() -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park()
            with suppress(OSError, TimeoutError):
                while not promise.cancelled:
                    await client.send(frame(TEXT, bytes(16_384)))
            await until(lambda: promise.cancelled)
            world.balances()

    run_guarded(main())


# Too many at once.


@pytest.mark.parametrize("protocol", [None, JSON_V1])
def test_attempt_beyond_the_most_that_may_be_pending_is_refused(protocol: str | None) -> None:
    async def main() -> None:
        async with World(server={"max_pending": 2}) as world:
            waiting = [await world.park() for _ in range(2)]
            client = await world.client()
            await client.knock(protocol, headers=[TOKEN])
            if protocol is None:
                refused_by(await client.response(), PENDING_LIMIT)
                assert await client.end() == b""
            else:
                await refused_in_band(client, PENDING_LIMIT)
            assert (world.promises[-1].taken, world.promises[-1].cancelled) == (0, 1)
            assert world.refused() == {"pending_limit": 1}
            assert world.pending == 2
            # One that needs no late decision comes in, and a place that is free is used.
            assert (await (await world.client()).ask()).status == 101
            waiting[0][1].keep(Identity("ann"))
            assert (await waiting[0][0].response()).status == 101
            late, promise = await world.park()
            promise.keep(Identity("bob"))
            assert (await late.response()).status == 101
            waiting[1][1].keep(UNAUTHORIZED)
            refused_by(await waiting[1][0].response(), UNAUTHORIZED)

    run_guarded(main())


@pytest.mark.parametrize("protocol", [None, JSON_V1])
def test_pending_decisions_of_one_address_are_bounded_and_others_wait_beside_them(
    protocol: str | None,
) -> None:
    """The client is counted, not its proxy."""

    async def main() -> None:
        async with World(limits={"per_ip": 4}, proxies={"trusted": ["127.0.0.1"]}) as world:
            waiting = [await world.park(headers=of(1)) for _ in range(4)]
            client = await world.client()
            await client.knock(protocol, headers=of(1))
            if protocol is None:
                refused_by(await client.response(), IP_LIMIT)
            else:
                await refused_in_band(client, IP_LIMIT)
            assert world.promises[-1].cancelled == 1
            waiting.append(await world.park(headers=of(2)))
            for one, promise in waiting:
                promise.keep(Identity("ann"))
                assert (await one.response()).status == 101
            assert len(world.node.engine.shared.unfinished) == 0

    run_guarded(main())


def test_pending_decision_that_waits_longest_makes_room_when_there_are_too_many() -> None:
    async def main() -> None:
        async with World(proxies={"trusted": ["127.0.0.1"]}) as world:
            world.node.engine.shared.unfinished.share(3, world.node.settings.limits)
            waiting = [await world.park(headers=of(number)) for number in range(3)]
            # One more of an address that has one already has to come later.
            client = await world.client()
            await client.knock(headers=of(0))
            refused_by(await client.response(), IP_LIMIT)
            waiting.append(await world.park(headers=of(3)))
            refused_by(await waiting[0][0].response(), PENDING_LIMIT)
            assert waiting[0][1].cancelled == 1
            assert world.pending == 3
            for one, promise in waiting[1:]:
                promise.keep(Identity("ann"))
                assert (await one.response()).status == 101

    run_guarded(main())


# The node goes away.


def test_drain_meanwhile_refuses_what_is_decided_late() -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park()
            world.node.admission.draining = True
            promise.keep(Identity("ann"))
            response = await client.response()
            assert response.status == DRAINING.status
            assert json.loads(response.body)["error"] == "draining"

    run_guarded(main())


def test_stop_meanwhile_cancels_what_is_not_decided() -> None:
    async def main() -> None:
        async with World() as world:
            client, promise = await world.park()
            await world.node.stop()
            assert promise.cancelled == 1
            assert await client.end() == b""
            promise.keep(Identity("ann"))
            assert world.echo.users == []

    run_guarded(main())


# Held back by the pace.


def test_attempts_that_the_pace_holds_back_for_too_long_are_refused() -> None:
    async def main() -> None:
        pacing = {"enabled": True, "rate": 1.0, "burst": 1}
        async with World(server={"handshake_timeout": 0.3}, pacing=pacing) as world:
            clients = [(await world.park())[0] for _ in range(4)]
            # One that needs no late decision waits behind them.
            clients.append(await world.client())
            await clients[-1].send(upgrade()[:-2])
            await until(lambda: len(world.node.engine.shared.openings) == 5)
            for promise in world.promises:
                promise.keep(Identity("ann"))
            await until(lambda: len(world.echo.users) == 2)
            await clients[-1].send(upgrade()[-2:])
            responses = [await client.response() for client in clients]
            assert [response.status for response in responses[:2]] == [101, 101]
            for response in responses[2:]:
                refused_by(response, DECISION_TIMEOUT)
            assert world.refused() == {"decision_timeout": 3}
            assert {promise.cancelled for promise in world.promises[2:]} == {1}

    run_guarded(main())


# The books balance, whatever happens.


def test_books_balance_after_every_kind_of_end_at_once() -> None:
    async def main() -> None:
        async with World(server={"handshake_timeout": 2}) as world:
            ends: list[Callable[[Client, Promise], None]] = [
                lambda client, promise: promise.keep(Identity("ann")),
                lambda client, promise: promise.keep(UNAUTHORIZED),
                lambda client, promise: promise.keep(RuntimeError("of the application")),
                lambda client, promise: client.leave(),
                lambda client, promise: client.reset(),
                lambda client, promise: None,
            ]
            parked = [await world.park() for _ in range(len(ends) * 5)]
            for number, (client, promise) in enumerate(parked):
                ends[number % len(ends)](client, promise)
            await until(lambda: world.pending == 0 and len(world.echo.users) == 5)
            world.balances()
            assert world.node.tracker.open == 5
            assert [promise.taken + promise.cancelled for _, promise in parked] == [1] * 30
            assert world.refused() == {
                "unauthorized": 5,
                "internal_error": 5,
                "decision_timeout": 5,
            }

    run_guarded(main())
