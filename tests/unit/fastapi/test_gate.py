"""The gate in a FastAPI application, by Starlette's TestClient: no sockets."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.testclient import WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocket, WebSocketDisconnect

from tidegate.errors import ConfigError, UsageError
from tidegate.fastapi import Gate, Hub, Identity, Member, Refused


class ChatIn(msgspec.Struct):
    text: str


class ChatOut(BaseModel):
    by: str | None
    text: str


@dataclass
class Point:
    x: int


async def current_user(connection: HTTPConnection) -> str | None:
    user = connection.query_params.get("user")
    if user == "stranger":
        raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Basic"})
    return user


class World:
    """An application with a gate, its client, and what its endpoints did."""

    def __init__(self, **limits: Any) -> None:
        self.gate = gate = Gate(**limits)
        self.app = app = FastAPI(lifespan=gate.lifespan)
        self.client = TestClient(app)
        self.log: list[Any] = []
        chat_member = Depends(gate.member(user=current_user))

        @app.websocket("/chat/{lobby}")
        @gate.limit(per_room=2)
        async def chat(lobby: str, member: Annotated[Member[ChatIn, ChatOut], chat_member]) -> None:
            self.log.append("chat runs")
            async with member.join(lobby) as room:
                async for message in member:
                    await room.send(ChatOut(by=member.user, text=message.text), exclude=member)
            self.log.append("chat is left")

        @app.post("/lobbies/{lobby}")
        async def announce(lobby: str, hub: Annotated[Hub, Depends(gate.hub)]) -> Any:
            room = hub.room(lobby)
            return {"users": room.users, "reached": await room.send({"by": "system", "text": "!"})}

    def __enter__(self) -> "World":
        self.client.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.client.__exit__()

    def chat(self, lobby: str = "a", user: str = "ann") -> WebSocketTestSession:
        return self.client.websocket_connect(f"/chat/{lobby}?user={user}")


@contextmanager
def endpoint(
    function: Any, *, middleware: bool = False, **limits: Any
) -> Iterator[tuple[Gate, TestClient]]:
    """An application with one endpoint at `/`, made by `function(gate)`."""
    gate = Gate(**limits)
    app = FastAPI(lifespan=gate.lifespan)
    if middleware:
        app.add_middleware(gate.middleware)
    app.websocket("/")(function(gate))
    with TestClient(app) as client:
        yield gate, client


def test_member_gets_typed_messages_and_rooms_send_typed_ones() -> None:
    with World() as world:
        with world.chat(user="ann") as ann, world.chat(user="bob") as bob:
            ann.send_text('{"text":"hi"}')
            assert bob.receive_json() == {"by": "ann", "text": "hi"}
            answer = world.client.post("/lobbies/a").json()
            assert answer == {"users": ["ann", "bob"], "reached": 2}
            assert ann.receive_json() == {"by": "system", "text": "!"}
            stats = world.gate.stats()
            assert (stats.connections, stats.users, stats.rooms) == (2, 2, 1)
        stats = world.gate.stats()
        assert (stats.connections, stats.users, stats.rooms) == (0, 0, 0)
        assert world.log == ["chat runs", "chat runs", "chat is left", "chat is left"]


@pytest.mark.parametrize(
    ("sent", "code", "detail"),
    [
        ("{", "invalid_json", None),
        ('{"text":1}', "invalid_field", "Expected `str`, got `int` - at `$.text`"),
        ('{"x":' + "[" * 2000, "invalid_json", None),
    ],
)
def test_wrong_message_is_answered_and_the_connection_stays(
    sent: str, code: str, detail: str | None
) -> None:
    with World() as world, world.chat(user="ann") as ann, world.chat(user="bob") as bob:
        ann.send_text(sent)
        error = ann.receive_json()
        assert (error["type"], error["code"], error.get("detail")) == ("error", code, detail)
        ann.send_text('{"text":"still here"}')
        assert bob.receive_json()["text"] == "still here"


def test_refused_attempt_never_runs_the_endpoint() -> None:
    with World(per_user=1) as world:
        with world.chat():
            with pytest.raises(WebSocketDenialResponse) as refused, world.chat():
                pass
            assert refused.value.status_code == 429
            assert refused.value.headers["X-Rejection-Reason"] == "user_limit"
            assert refused.value.headers["Retry-After"] == "10"
            assert refused.value.json() == {"detail": "Too many connections of this user"}
            with world.chat(user="bob"):
                pass
            assert world.log.count("chat runs") == 2
            assert world.gate.stats().refused == {"user_limit": 1}
        with world.chat():
            pass


def test_full_room_refuses_before_the_accept() -> None:
    with World() as world:
        with world.chat(user="a"), world.chat(user="b"):
            with pytest.raises(WebSocketDenialResponse) as refused, world.chat(user="c"):
                pass
            assert refused.value.headers["X-Rejection-Reason"] == "room_full"
            assert world.gate.stats().connections == 2
            with world.chat("another", user="c"):
                pass
        with world.chat(user="c"):
            pass


def test_what_the_users_dependency_raises_is_the_refusal() -> None:
    with World() as world:
        with pytest.raises(WebSocketDenialResponse) as refused, world.chat(user="stranger"):
            pass
        assert refused.value.status_code == 401
        assert refused.value.headers["WWW-Authenticate"] == "Basic"
        assert refused.value.json() == {"detail": "who are you?"}
        assert world.log == []


def test_testing_has_its_own_limits_counts_and_clock() -> None:
    with World(per_user=2) as world, world.chat(), world.chat():
        with world.gate.testing(per_user=1) as clock, world.chat():
            assert world.gate.stats().connections == 1
            with pytest.raises(Refused, match="user_limit"), world.chat():
                pass
            before = clock.now
            clock.advance(3600)
            assert clock.now == before + 3600
            with pytest.raises(ValueError, match="seconds"):
                clock.advance(-1)
        assert world.gate.stats().connections == 2
        with pytest.raises(WebSocketDenialResponse), world.chat():
            pass


def test_testing_raises_for_a_full_room() -> None:
    with World() as world, world.gate.testing(per_room=1), world.chat(user="ann"):
        with pytest.raises(Refused, match="room_full"), world.chat(user="bob"):
            pass
        assert world.gate.stats().refused == {"room_full": 1}


def test_open_member_that_cannot_join_is_closed_with_the_reason() -> None:
    def make(gate: Gate) -> Any:
        async def join(member: Annotated[Member[str, str], Depends(gate.member())]) -> None:
            async for room in member:
                async with member.join(room):
                    await member.send(f"in {room}")
                    await member.receive()

        return join

    with endpoint(make, per_room=1) as (gate, client):
        with client.websocket_connect("/") as first, client.websocket_connect("/") as second:
            first.send_text("a")
            assert first.receive_text() == "in a"
            second.send_text("a")
            with pytest.raises(WebSocketDisconnect) as closed:
                second.receive_text()
            assert closed.value.code == 4002
            assert closed.value.reason == '{"error":"room_full","retryAfter":10}'
        assert gate.stats().connections == 0


def test_refusal_that_the_endpoint_catches_does_not_close() -> None:
    def make(gate: Gate) -> Any:
        async def join(member: Annotated[Member[str, str], Depends(gate.member())]) -> None:
            await member.accept()
            try:
                async with member.join("a"):
                    pass
            except Refused as refused:
                await member.send(refused.reason)

        return join

    with endpoint(make, per_room=0) as (_, client), client.websocket_connect("/") as one:
        assert one.receive_text() == "room_full"


@pytest.mark.parametrize("how", ["raises", "returns", "closes"])
def test_every_end_of_the_endpoint_gives_everything_back(how: str) -> None:
    def make(gate: Gate) -> Any:
        async def end(member: Annotated[Member[Any, str], Depends(gate.member())]) -> None:
            async with member.join("a"), member.join("b"):
                await member.receive()
                if how == "raises":
                    raise LookupError("of the application")
                if how == "closes":
                    await member.close(4321, "enough")
                    with pytest.raises(WebSocketDisconnect):
                        await member.send("nobody")
                    async for _ in member:
                        raise AssertionError

        return end

    with endpoint(make) as (gate, client), ExitStack() as stack:
        if how == "raises":
            stack.enter_context(pytest.raises(LookupError))
        with client.websocket_connect("/") as one:
            assert gate.stats().rooms == 2
            one.send_text("end")
            if how == "closes":
                with pytest.raises(WebSocketDisconnect) as closed:
                    one.receive_text()
                assert (closed.value.code, closed.value.reason) == (4321, "enough")
        stats = gate.stats()
        assert (stats.connections, stats.users, stats.rooms) == (0, 0, 0)


def test_rate_of_a_route_that_is_passed_too_often_closes() -> None:
    def make(gate: Gate) -> Any:
        @gate.limit(messages_per_second=0.5)
        async def echo(member: Annotated[Member[str, str], Depends(gate.member())]) -> None:
            async for text in member:
                await member.send(text)

        return echo

    with (
        endpoint(make, settings={"messages": {"abuse_after": 2}}) as (gate, client),
        gate.testing(),
        client.websocket_connect("/") as one,
    ):
        for text in ("1", "2", "3"):
            one.send_text(text)
        assert one.receive_text() == "1"
        assert one.receive_json()["code"] == "message_rate"
        with pytest.raises(WebSocketDisconnect) as closed:
            one.receive_text()
        assert closed.value.code == 1008


def test_rate_of_a_route_answers_what_comes_too_early_and_closes_abuse() -> None:
    def make(gate: Gate) -> Any:
        @gate.limit(messages_per_second=1)
        async def echo(member: Annotated[Member[str, str], Depends(gate.member())]) -> None:
            async for text in member:
                await member.send(text)

        return echo

    with (
        endpoint(make) as (gate, client),
        gate.testing() as clock,
        client.websocket_connect("/") as one,
    ):
        for text in ("1", "2", "3"):
            one.send_text(text)
        assert [one.receive_text() for _ in range(2)] == ["1", "2"]
        error = one.receive_json()
        assert (error["code"], error["retryAfter"]) == ("message_rate", 1)
        clock.advance(1)
        one.send_text("4")
        assert one.receive_text() == "4"


@pytest.mark.parametrize(
    ("kind", "sent", "got"),
    [
        (str, "x", "'x'"),
        (bytes, b"x", "b'x'"),
        (Any, b"x", "b'x'"),
        (str | bytes, "x", "'x'"),
        (dict[str, int], '{"x":1}', "{'x': 1}"),
        (Point, '{"x":1}', "Point(x=1)"),
        (ChatIn, b'{"text":"x"}', "ChatIn(text='x')"),
        (ChatOut, '{"by":null,"text":"x"}', "ChatOut(by=None, text='x')"),
        (list[ChatOut], '[{"by":null,"text":"x"}]', "[ChatOut(by=None, text='x')]"),
        (str, b"x", "error invalid_field a text message is expected, not a binary one"),
        (bytes, "x", "error invalid_field a binary message is expected, not a text"),
        (dict[str, int], '{"x":"secret"}', "error invalid_field Expected `int`, got `str`"),
        (Point, b"\xff", "error invalid_json"),
        (ChatOut, '{"by":null}', "error invalid_field text: Field required"),
        (ChatOut, '{"by":{"a":"secret"},"text":"x"}', "error invalid_field by: Input should"),
        (ChatOut, "{", "error invalid_json"),
    ],
)
def test_messages_of_every_kind(kind: Any, sent: str | bytes, got: str) -> None:
    def make(gate: Gate) -> Any:
        async def show(member: Any) -> None:
            async for message in member:
                await member.send(repr(message))

        show.__annotations__["member"] = Annotated[Member[kind, str], Depends(gate.member())]
        return show

    with endpoint(make) as (_, client), client.websocket_connect("/") as one:
        one.send({"type": "websocket.receive", "text" if isinstance(sent, str) else "bytes": sent})
        answer = one.receive_text()
        if got.startswith("error"):
            error = msgspec.json.decode(answer)
            answer = f"error {error['code']} {error.get('detail', '')}".strip()
        assert answer.startswith(got)
        assert "secret" not in answer


def test_member_of_a_dependency_further_down_has_its_types() -> None:
    def make(gate: Gate) -> Any:
        async def doubled(member: Annotated[Member[int, str], Depends(gate.member())]) -> Any:
            return member

        async def double(member: Annotated[Any, Depends(doubled)]) -> None:
            async for number in member:
                await member.send(str(number * 2))

        return double

    with endpoint(make) as (_, client), client.websocket_connect("/") as one:
        one.send_text("21")
        assert one.receive_text() == "42"


@pytest.mark.parametrize(
    ("found", "user"),
    [("ann", "ann"), (7, "7"), (Identity("ann", "pro"), "ann"), (None, None)],
)
def test_user_may_be_named_in_several_ways(found: Any, user: str | None) -> None:
    def make(gate: Gate) -> Any:
        def who() -> Any:
            return found

        async def show(member: Annotated[Member[str, Any], Depends(gate.member(user=who))]) -> None:
            await member.send([member.user])

        return show

    with endpoint(make) as (_, client), client.websocket_connect("/") as one:
        assert one.receive_json() == [user]


def test_mistakes_are_told() -> None:
    gate = Gate()
    with pytest.raises(UsageError, match="per_room"):
        gate.limit(per_room=-1)
    with pytest.raises(UsageError, match="messages_per_second"):
        gate.limit(messages_per_second=0)
    with pytest.raises(TypeError, match="user must be a function"):
        gate.member(user="ann")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"limits\.per_ip"):
        Gate(per_ip=-1)

    def make(gate: Gate) -> Any:
        async def show(
            member: Annotated[Member[str, str], Depends(gate.member(user=lambda: object()))],
        ) -> None: ...

        return show

    with (
        endpoint(make) as (_, client),
        pytest.raises(UsageError, match="must return a str"),
        client.websocket_connect("/"),
    ):
        pass


def test_from_settings_reads_a_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEGATE_CONFIG", raising=False)
    assert Gate.from_settings().settings == Gate().settings
    (tmp_path / "tidegate.toml").write_text("[limits]\nper_user = 3\n")
    assert Gate.from_settings().settings.limits.per_user == 3
    (tmp_path / "other.toml").write_text("[limits]\nper_user = 4\n")
    monkeypatch.setenv("TIDEGATE_CONFIG", "other.toml")
    assert Gate.from_settings().settings.limits.per_user == 4
    assert Gate.from_settings(tmp_path / "tidegate.toml").settings.limits.per_user == 3
    (tmp_path / "other.toml").write_text("[limits\n")
    with pytest.raises(ConfigError, match=r"other\.toml"):
        Gate.from_settings()
    with pytest.raises(ConfigError, match=r"none\.toml"):
        Gate.from_settings("none.toml")


def test_lifespan_ends_with_a_gate_that_admits_nobody_until_it_begins_again() -> None:
    world = World()
    for _ in range(2):
        with world, world.chat():
            assert world.gate.ready == (True, "")
        assert world.gate.ready == (False, "draining")


def test_members_in_two_event_loops_are_a_mistake_that_is_told() -> None:
    world = World()
    with (
        world.chat(user="ann"),
        pytest.raises(UsageError, match="one event loop"),
        world.chat(user="bob"),
    ):
        pass
    with world.chat(user="ann"), pytest.raises(UsageError, match="TestClient"):
        world.client.post("/lobbies/a")


def test_middleware_refuses_before_the_users_dependency() -> None:
    asked: list[str] = []

    def make(gate: Gate) -> Any:
        async def who() -> str:
            asked.append("who")
            return "ann"

        async def echo(member: Annotated[Member[str, str], Depends(gate.member(user=who))]) -> None:
            async for text in member:
                await member.send(text)

        return echo

    with endpoint(make, middleware=True, per_ip=2, per_user=1) as (gate, client):
        with client.websocket_connect("/") as one:
            one.send_text("x")
            assert one.receive_text() == "x"
            with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/"):
                pass
            assert refused.value.headers["X-Rejection-Reason"] == "user_limit"
            assert asked == ["who", "who"]
            with gate.testing(per_ip=0), pytest.raises(Refused, match="ip_limit"):
                client.websocket_connect("/").__enter__()
            assert asked == ["who", "who"]
            assert gate.stats().connections == 1
        with (
            gate.testing(per_user=1),
            client.websocket_connect("/"),
            pytest.raises(Refused, match="user_limit"),
            client.websocket_connect("/"),
        ):
            pass
        with client.websocket_connect("/"):
            pass


@pytest.mark.parametrize("middleware", [True, False])
def test_browser_is_told_a_refusal_by_a_close_frame(middleware: bool) -> None:
    def make(gate: Gate) -> Any:
        async def wait(
            member: Annotated[Member[str, str], Depends(gate.member(user=lambda: "ann"))],
        ) -> None:
            async for _ in member:
                pass

        return wait

    with endpoint(make, middleware=middleware, per_user=0) as (_, client):
        with client.websocket_connect("/", subprotocols=["chat", "tidegate.v1"]) as one:
            assert one.accepted_subprotocol == "tidegate.v1"
            with pytest.raises(WebSocketDisconnect) as closed:
                one.receive_text()
        assert (closed.value.code, closed.value.reason) == (
            1013,
            '{"error":"user_limit","retryAfter":10}',
        )


def test_server_without_denial_responses_gets_a_close() -> None:
    class Old:
        """Takes the extension out of the scope, as daphne has none."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                scope["extensions"] = {}
            await self.app(scope, receive, send)

    def make(gate: Gate) -> Any:
        async def echo(
            member: Annotated[Member[str, str], Depends(gate.member(user=current_user))],
        ) -> None:
            async for text in member:
                await member.send(text)

        return echo

    gate = Gate(per_user=0, per_room=0)
    app = FastAPI(lifespan=gate.lifespan)
    app.add_middleware(gate.middleware)
    app.add_middleware(Old)
    app.websocket("/")(make(gate))

    @app.websocket("/room")
    async def room(member: Annotated[Member[str, str], Depends(gate.member())]) -> None:
        async with member.join("a"):
            raise AssertionError

    with TestClient(app) as client:
        for user in ("stranger", "ann"):
            with pytest.raises(WebSocketDisconnect) as refused:
                client.websocket_connect(f"/?user={user}").__enter__()
            assert not isinstance(refused.value, WebSocketDenialResponse)
        with client.websocket_connect("/room") as one:
            with pytest.raises(WebSocketDisconnect) as closed:
                one.receive_text()
            assert closed.value.code == 4002
            assert closed.value.reason == '{"error":"room_full","retryAfter":10}'


def test_import_without_fastapi_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "try: import tidegate.fastapi\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "pip install 'tidegate[fastapi]'" in done.stdout, done.stderr


def test_member_leaves_without_the_stack_of_fastapi() -> None:
    gate = Gate(connections=1)

    async def endpoint(websocket: WebSocket) -> None:
        websocket.scope["endpoint"] = endpoint
        member = await gate.member()(websocket)
        async with member.join("a"):
            assert gate.stats().connections == 1

    app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    with TestClient(app) as client:
        for _ in range(2):
            with client.websocket_connect("/"):
                pass
    assert gate.stats().connections == gate.stats().rooms == 0


@pytest.mark.parametrize("middleware", [True, False])
def test_identity_that_expires_ends_its_member(middleware: bool) -> None:
    def make(gate: Gate) -> Any:
        def who() -> Identity:
            return Identity("ann", expires_at=time.time() + 0.1)

        async def wait(member: Annotated[Member[str, str], Depends(gate.member(user=who))]) -> None:
            async for _ in member:
                pass

        return wait

    with (
        endpoint(make, middleware=middleware) as (gate, client),
        client.websocket_connect("/") as one,
    ):
        with pytest.raises(WebSocketDisconnect) as closed:
            one.receive_text()
        assert closed.value.code == 4501
        assert gate.stats().connections == 0
