"""Functions of an `App` over sockets: what each may answer, and what holds if it does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.clients import Client, run_guarded, until
from tidegate import App, Identity, Refused, UsageError, claims, refuse
from tidegate.core.codes import KICKED, NORMAL

SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"port": 0, "shutdown_timeout": 0.2},
    "pacing": {"enabled": False},
    "hooks": {"timeout": 0.05},
}
LONG = {"hooks": {"timeout": 30}}
ALLOW = {"hooks": {"timeout": 0.05, "on_failure": "allow"}}


def make(**sections: dict[str, Any]) -> App:
    return App({**SETTINGS, **sections})


class Peer:
    """A client of the native protocol."""

    def __init__(self, client: Client) -> None:
        self.client = client

    @classmethod
    async def at(cls, app: App) -> Peer:
        peer = cls(await Client.open(app.addresses[0][1], "tidegate.v1.json"))
        assert (await peer.hear())["type"] == "connected"
        return peer

    async def say(self, **message: Any) -> None:
        await self.client.say(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.client.text())
        return message

    async def ask(self, **message: Any) -> dict[str, Any]:
        await self.say(**message)
        return await self.hear()


async def knock(app: App) -> tuple[int, str]:
    """Status and reason of the response to an attempt."""
    client = await Client.at(app.addresses[0][1])
    response = await client.ask()
    return response.status, response.headers.get("x-rejection-reason", "")


def counts(app: App) -> tuple[int, int, int]:
    assert app._running is not None
    found = app._running[0].stats.hooks
    return found["allowed"], found["refused"], found["failed"]


def nothing_is_left(app: App) -> bool:
    assert app._running is not None
    node, asked = app._running
    asking = getattr(node.application, "_asking", None)
    return not node.tracker.open and not len(asked._calls) and not (asking and asking._held)


# The first column is plain or async.
BOTH = pytest.mark.parametrize("is_async", [False, True])


def returning(answer: Any, *, is_async: bool) -> Callable[..., Any]:
    def plain(*_: Any) -> Any:
        if isinstance(answer, ValueError):
            raise answer
        return answer

    async def late(*arguments: Any) -> Any:
        await asyncio.sleep(0)
        return plain(*arguments)

    def named(a: Any, b: Any) -> Any:
        return late(a, b) if is_async else plain(a, b)

    return named


def with_data(function: Callable[..., Any]) -> Callable[..., Any]:
    def named(client: Any, room: Any, data: Any) -> Any:
        del data
        return function(client, room)

    return named


@BOTH
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (None, None),
        ("ann", "ann"),
        (Identity("bob", claims=claims(join=["lobby"])), "bob"),
        (refuse("forbidden"), (403, "forbidden")),
        (7, (503, "hook_failed")),
        ("two\nlines", (503, "hook_failed")),
        (refuse("not_allowed"), (503, "hook_failed")),  # an error of messages, not of attempts
        (ValueError(), (503, "hook_failed")),
    ],
)
def test_on_connect_admits_names_or_refuses(answer: Any, expected: Any, is_async: bool) -> None:
    async def main() -> None:
        app = make()
        app.on_connect(returning(answer, is_async=is_async))
        async with app:
            if isinstance(expected, tuple):
                assert await knock(app) == expected
            else:
                client = await Client.open(app.addresses[0][1], "tidegate.v1.json")
                assert json.loads(await client.text())["userId"] == expected
                if expected == "bob":
                    assert json.loads(await client.text()) == {
                        "type": "joined",
                        "room": "lobby",
                        "members": 1,
                    }
                client.leave()
            await until(lambda: nothing_is_left(app))

    run_guarded(main())


@BOTH
@pytest.mark.parametrize(
    ("answer", "code", "delay", "counted"),
    [
        (None, None, None, (1, 0, 0)),
        (refuse("refused"), "refused", None, (0, 1, 0)),
        (refuse("not_allowed", 2.5), "not_allowed", 3, (0, 1, 0)),
        (refuse("forbidden"), "refused", None, (0, 1, 0)),
        (True, "unanswered", 5, (0, 0, 1)),
        (ValueError(), "unanswered", 5, (0, 0, 1)),
    ],
)
def test_on_join_allows_or_refuses(
    answer: Any, code: str | None, delay: int | None, counted: Any, is_async: bool
) -> None:
    async def main() -> None:
        app = make()
        app.on_join(returning(answer, is_async=is_async))
        async with app:
            peer = await Peer.at(app)
            heard = await peer.ask(type="join", room="lobby", id=1)
            assert (heard.get("code"), heard.get("retryAfter")) == (code, delay)
            assert counts(app) == counted
            peer.client.leave()
            await until(lambda: nothing_is_left(app))

    run_guarded(main())


@BOTH
@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        (None, {"text": "hi"}),
        ({"text": "hello"}, {"text": "hello"}),
        (0, 0),
        (refuse("refused"), "refused"),
        (object(), "unanswered"),
        ("x" * 300, "unanswered"),  # more than messages.max_size
        (ValueError(), "unanswered"),
    ],
)
def test_on_publish_allows_changes_or_refuses(answer: Any, heard: Any, is_async: bool) -> None:
    async def main() -> None:
        app = make(messages={"max_size": 256})
        app.on_publish(with_data(returning(answer, is_async=is_async)))
        async with app:
            peer = await Peer.at(app)
            await peer.ask(type="join", room="lobby", id=1)
            said = await peer.ask(type="room_message", room="lobby", data={"text": "hi"})
            assert said.get("data", said.get("code")) == heard

    run_guarded(main())


@pytest.mark.parametrize("allows", [False, True])
def test_one_that_hangs_is_cancelled_and_on_failure_decides(allows: bool) -> None:
    async def main() -> None:
        app = make(**ALLOW) if allows else make()
        ended: list[str] = []

        @app.on_connect
        async def connect(request: Any, identity: Any) -> None:
            await hang("connect")

        @app.on_join
        async def join(client: Any, room: str) -> None:
            await hang("join")

        @app.on_publish
        async def publish(client: Any, room: str, data: Any) -> None:
            await hang("publish")

        async def hang(name: str) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ended.append(name)
                raise

        async with app:
            if not allows:
                assert await knock(app) == (503, "hook_failed")
                return
            peer = await Peer.at(app)
            assert (await peer.ask(type="join", room="lobby", id=1))["type"] == "ack"
            assert (await peer.ask(type="room_message", room="lobby", data=1))["data"] == 1
            await until(lambda: ended == ["connect", "join", "publish"])
            assert counts(app) == (0, 0, 3)
            peer.client.leave()
            await until(lambda: nothing_is_left(app))

    run_guarded(main())


def test_one_that_does_not_heed_its_cancellation_holds_nobody_up() -> None:
    async def main() -> None:
        app = make(hooks={"timeout": 0.05, "max_asked": 1})
        free = asyncio.Event()

        @app.on_join
        async def join(client: Any, room: str) -> None:
            while not free.is_set():
                try:
                    await free.wait()
                except asyncio.CancelledError:
                    continue

        async with app:
            peer, other = await Peer.at(app), await Peer.at(app)
            assert (await peer.ask(type="join", room="a", id=1))["code"] == "unanswered"
            # It is at work still, and more than one may not be.
            assert (await other.ask(type="join", room="a", id=1))["code"] == "unanswered"
            free.set()
            await until(lambda: not len(app._running[1]._calls))  # type: ignore[index]  # it runs
            assert (await other.ask(type="join", room="a", id=2))["type"] == "ack"

    run_guarded(main())


def test_while_one_is_slow_only_its_client_waits_and_keeps_its_order() -> None:
    async def main() -> None:
        app = make(**LONG)
        gate = asyncio.Event()
        order: list[str] = []

        @app.on_publish
        async def publish(client: Any, room: str, data: Any) -> Any:
            if data == "first":
                await gate.wait()
            order.append(data)

        async with app:
            slow, other = await Peer.at(app), await Peer.at(app)
            for peer in (slow, other):
                await peer.ask(type="join", room="lobby", id=0)
            await slow.say(type="room_message", room="lobby", data="first", id=1)
            await slow.say(type="room_message", room="lobby", data="second", id=2)
            await slow.say(type="health_ping", id=3)
            assert (await other.ask(type="room_message", room="lobby", data="other"))["data"]
            assert (await slow.hear())["data"] == "other"
            gate.set()
            heard = [await slow.hear() for _ in range(5)]
            assert [row["id"] for row in heard if "id" in row] == [1, 2, 3]
            assert [row["data"] for row in heard if "data" in row] == ["first", "second"]
            assert order == ["other", "first", "second"]
            assert [(await other.hear())["data"] for _ in range(2)] == ["first", "second"]

    run_guarded(main())


def test_client_that_leaves_while_it_is_asked_about_leaves_nothing_behind() -> None:
    async def main() -> None:
        app = make(**LONG)
        gate = asyncio.Event()
        asked: list[str] = []

        @app.on_connect
        async def connect(request: Any, identity: Any) -> None:
            if request.path.endswith("slow") or "slow" in request.query:
                asked.append("connect")
                await gate.wait()

        @app.on_join
        async def join(client: Any, room: str) -> None:
            asked.append("join")
            await gate.wait()

        async with app:
            peer = await Peer.at(app)
            await peer.say(type="join", room="lobby", id=1)
            await peer.say(type="join", room="hall", id=2)
            knocking = await Client.at(app.addresses[0][1])
            await knocking.knock(path="/ws?slow")
            await until(lambda: asked == ["join", "connect"])
            knocking.reset()
            peer.client.reset()
            node = app._running[0]  # type: ignore[index]  # it runs
            await until(lambda: not node.tracker.open and not node.engine.opening)
            gate.set()
            await until(lambda: nothing_is_left(app))
            assert asked == ["join", "connect"]
            assert list(node.rooms) == []

    run_guarded(main())


def test_on_disconnect_is_told_once_of_clients_that_were_connected() -> None:
    async def main() -> None:
        app = make()
        told: list[tuple[str | None, int]] = []

        @app.on_connect
        def connect(request: Any, identity: Identity) -> str | Refused:
            return refuse("forbidden") if "no" in request.query else "ann"

        @app.on_disconnect
        async def disconnect(client: Any, code: int, text: str) -> None:
            told.append((client.user, code))
            raise ValueError(text)

        async with app:
            peer = await Peer.at(app)
            client = await Client.at(app.addresses[0][1])
            assert (await client.ask(path="/ws?no")).status == 403
            await peer.client.close(NORMAL.code)
            await until(lambda: told and nothing_is_left(app))
            assert told == [("ann", NORMAL.code)]

    run_guarded(main())


def test_app_publishes_sends_joins_and_disconnects() -> None:
    async def main() -> None:
        rule = {"pattern": "kept", "history_size": 5}
        app = make(rooms={"rules": [rule]})
        app.on_connect(lambda request, identity: "ann")
        with pytest.raises(UsageError, match="does not run"):
            await app.publish("lobby", 1)
        async with app:
            peer = await Peer.at(app)
            assert await app.join("kept", user="ann") == 1
            assert (await peer.hear())["type"] == "joined"
            position = await app.publish("kept", {"n": 1})
            assert position is not None
            assert position[1] == 1
            assert (await peer.hear())["data"] == {"n": 1}
            assert await app.publish("lobby", 1) is None
            assert await app.send("ann", "psst") == 1
            assert (await peer.hear())["type"] == "direct_message"
            assert await app.broadcast([1]) == 1
            assert (await peer.hear())["type"] == "broadcast"
            assert await app.leave("kept", user="ann") == 1
            assert (await peer.hear())["type"] == "left"
            with pytest.raises(UsageError, match="control"):
                await app.publish("a\nb", 1)
            with pytest.raises(TypeError):
                await app.publish("lobby", object())
            with pytest.raises(UsageError, match="at least"):
                await app.disconnect()
            assert await app.disconnect(user="ann", detail="bye") == 1
            assert (await peer.client.closed())[0] == KICKED.code
            with pytest.raises(UsageError, match="once"):
                await app.start()
            assert app.stats().rooms == 0
            assert app._running is not None
            assert +app._running[0].stats.published == {"hook": 4}

    run_guarded(main())


def test_functions_are_checked_when_they_are_given() -> None:
    app = make()
    with pytest.raises(TypeError, match=r"on_join is called with \(client, room\)"):
        app.on_join(lambda client: None)
    app.on_join(lambda client, room: None)
    with pytest.raises(UsageError, match="on_join is set already"):
        app.on_join(lambda client, room: None)
