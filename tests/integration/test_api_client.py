"""`tidegate.api` against a running server: every call of both clients, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.process import Process
from tests.support.raw import PING, PONG, TEXT, Raw
from tests.support.tokens import SECRET, bearer
from tidegate.api import (
    AsyncServerApi,
    InvalidRequest,
    Message,
    NotTaken,
    Position,
    ServerApi,
    TokenRefused,
    Unavailable,
    Unreachable,
)

TOKEN = "a-token-of-the-operator"
NATIVE = ("Sec-WebSocket-Protocol", "tidegate.v1.json")
SETTINGS: dict[str, Any] = {
    "auth": {"secret": SECRET},
    "admin": {"token": TOKEN},
    "drain": {"window": 0},
    "rooms": {"rules": [{"pattern": "chat", "history_size": 10, "presence": "members"}]},
}


@pytest.fixture
def server(serve: Start) -> Process:
    return serve(SETTINGS)


@pytest.fixture
def api(server: Process) -> Iterator[ServerApi]:
    with ServerApi(f"http://127.0.0.1:{server.admin_port}", TOKEN) as client:
        yield client


def member(server: Process, room: str, user: str = "ann") -> Raw:
    raw = server.connect().open(headers=[NATIVE, bearer(user)])
    assert heard(raw)["type"] == "connected"
    raw.send_frame(TEXT, json.dumps({"type": "join", "room": room, "id": 1}))
    assert heard(raw)["type"] == "ack"
    return raw


def heard(raw: Raw) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(raw.message())
    return message


def test_every_call_against_a_server(server: Process, api: ServerApi) -> None:
    with member(server, "chat", "ann") as ann, member(server, "lobby", "bob") as bob:
        published = api.publish("chat", {"n": 1})
        assert (published.members, published.offset) == (1, 1)
        assert heard(ann)["data"] == {"n": 1}
        assert api.publish("lobby", None).position is None
        assert heard(bob)["data"] is None
        assert api.publish_to_user("bob", [1]).delivered == 1
        assert heard(bob)["data"] == [1]
        assert api.publish_to_all("x").delivered == 2
        assert [heard(raw)["data"] for raw in (ann, bob)] == ["x", "x"]
        taken, wrong = api.publish_batch(
            [Message(room="chat", data=2), Message(room="chat\n", data=3)]
        )
        assert (taken.offset, taken.error) == (2, None)
        assert (wrong.error, wrong.field, wrong.offset) == ("invalid_field", "room", None)
        again = [api.publish("chat", "once", key="order-17").offset for _ in range(2)]
        assert again == [3, 3]

        assert {(one.name, one.members) for one in api.rooms().rooms} == {("chat", 1), ("lobby", 1)}
        assert [one.name for one in api.each_room()] == ["chat", "lobby"]
        assert api.rooms(search="lob").rooms[0].name == "lobby"
        (row,) = api.connections(room="chat").connections
        assert (row.user, row.rooms, row.room_count) == ("ann", ("chat",), 1)
        assert [one.user for one in api.each_connection(ip="127.0.0.0/8")] == ["ann", "bob"]
        assert [one.user for one in api.users(limit=1).users] == ["ann"]
        assert [one.user for one in api.each_user()] == ["ann", "bob"]
        present = api.presence("chat").users
        assert present is not None
        assert [(one.user, one.devices, one.info) for one in present] == [("ann", 1, None)]

        last = api.history("chat", limit=1)
        assert [(one.data, one.sender) for one in last.messages] == [("once", None)]
        since: Position = Position(last.epoch, 0)
        offsets: list[int] = []
        while page := api.history("chat", limit=2, since=since).messages:
            offsets += [one.offset for one in page]
            since = Position(last.epoch, page[-1].offset)
        assert offsets == [1, 2, 3]

        assert api.join("lobby", user="ann").count == 1
        assert api.leave("lobby", connection=row.id).count == 1
        assert api.explain(ip="192.0.2.1", user="ann").outcome == "admit"
        steps = {step.name: step.passed for step in api.explain_room("chat", user="ann").steps}
        assert steps["join"] is True
        assert api.refusals().refusals == []
        assert api.change_settings({"limits": {"per_ip": 50}}).applied == ["limits.per_ip"]
        view = api.settings()
        assert view.settings["limits.per_ip"].value == 50
        assert view.sources["limits.per_ip"] == "PATCH /settings"
        assert api.stats().connections.current == 2
        assert api.stats(fleet=True).nodes == 1
        assert [one.state for one in api.nodes().nodes] == ["serving"]
        assert isinstance(api.timeline()["moments"], list)
        assert "tidegate_build_info" in api.metrics()
        assert (api.health().status, api.ready().ready) == ("ok", True)
        assert api.openapi()["openapi"] == "3.1.0"
        assert api.drain_progress().draining is False

        assert api.disconnect(user="bob", text="moved", may_return=True) == 1
        frame = bob.frame()
        assert (frame.code, json.loads(frame.reason)["detail"]) == (4009, "moved")
        assert api.revoke("ann").closed == 1
    assert api.drain().draining is True
    assert api.ready().ready is False or server.process.poll() is not None


def test_a_user_is_pinged(server: Process, api: ServerApi) -> None:
    with member(server, "chat") as ann:

        def answer() -> None:
            frame = ann.frame()
            assert frame.opcode == PING
            ann.send_frame(PONG, frame.payload)

        thread = threading.Thread(target=answer)
        thread.start()
        latency = api.ping("ann", timeout=10).latency
        thread.join()
        assert latency is not None
        assert 0 <= latency < 10
    assert api.ping("nobody").latency is None


def test_the_async_client_does_the_same(server: Process) -> None:
    async def main() -> None:
        async with AsyncServerApi(f"http://127.0.0.1:{server.admin_port}", TOKEN) as api:
            done = await asyncio.gather(*(api.publish("chat", number) for number in range(10)))
            assert sorted(one.offset or 0 for one in done) == list(range(1, 11))
            assert [one.user async for one in api.each_connection()] == ["ann"]
            assert [one.name async for one in api.each_room(search="c")] == ["chat"]
            with pytest.raises(NotTaken) as caught:
                await api.history("lobby")
            assert (caught.value.status, caught.value.code) == (409, "no_history")
            assert await api.disconnect(user="ann", code=4321) == 1

    with member(server, "chat") as ann:
        asyncio.run(main())
        assert sorted(heard(ann)["data"] for _ in range(10)) == list(range(10))
        assert ann.frame().code == 4321


def test_a_unix_socket_works_too(serve: Start, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    serve({"admin": {"host": f"unix:{path}", "token": TOKEN}}, admin=False)

    async def main() -> None:
        async with AsyncServerApi(f"unix:{path}", TOKEN) as api:
            assert (await api.publish("lobby", 1)).members == 0

    with ServerApi(f"unix:{path}", TOKEN) as api:
        assert api.publish("lobby", 1).members == 0
    asyncio.run(main())


def test_errors_say_what_is_wrong_and_never_the_token(server: Process, api: ServerApi) -> None:
    with pytest.raises(InvalidRequest) as wrong:
        api.publish("", 1)
    assert (wrong.value.status, wrong.value.field) == (400, "room")
    with pytest.raises(InvalidRequest) as wrong:
        api.change_settings({"limits": {"per_ip": -1}})
    assert wrong.value.field == "limits.per_ip"
    with pytest.raises(InvalidRequest) as wrong:
        api.connections(limit=5000)
    assert wrong.value.field == "limit"
    with pytest.raises(InvalidRequest) as wrong:
        api.disconnect(user="ann", code=1006)
    assert wrong.value.field == "code"
    with pytest.raises(InvalidRequest) as wrong:
        api.publish("chat", "x" * 300_000)
    assert wrong.value.status == 413
    with pytest.raises(NotTaken) as refused:
        api.presence("lobby")
    assert refused.value.code == "no_presence"
    url = f"http://127.0.0.1:{server.admin_port}"
    with ServerApi(url, "another-token-of-somebody") as other, pytest.raises(TokenRefused) as no:
        other.rooms()
    assert "another-token" not in f"{no.value!r} {other!r}"


class Flaky:
    """A server that answers as its script says, and notes what came."""

    def __init__(self, *script: tuple[int, dict[str, str], bytes] | None) -> None:
        self.script = list(script)
        self.seen: list[tuple[str, str, str | None]] = []
        flaky = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer()

            def do_GET(self) -> None:
                self._answer()

            def _answer(self) -> None:
                key = self.headers.get("Idempotency-Key")
                flaky.seen.append((self.command, self.path, key))
                step = flaky.script.pop(0)
                if step is None:
                    self.close_connection = True
                    return
                status, headers, body = step
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Flaky:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


LOST = None
BUSY = (503, {"Retry-After": "0"}, b'{"error": "overloaded", "message": "Busy"}')
LATER = (503, {"Retry-After": "60"}, b'{"error": "overloaded", "message": "Busy"}')
DONE: tuple[int, dict[str, str], bytes] = (200, {}, b'{"members": 1}')


def once(send: Callable[[ServerApi], Any], url: str, **options: Any) -> Any:
    with ServerApi(url, TOKEN, **options) as api:
        return send(api)


def once_async(name: str, url: str, *args: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncServerApi(url, TOKEN, **options) as api:
            return await getattr(api, name)(*args)

    return asyncio.run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_publish_is_sent_again_with_its_key_until_it_is_answered(kind: str) -> None:
    with Flaky(LOST, BUSY, DONE) as flaky:
        if kind == "sync":
            done = once(lambda api: api.publish("lobby", 1), flaky.url)
        else:
            done = once_async("publish", flaky.url, "lobby", 1)
        assert done.members == 1
        assert len(flaky.seen) == 3
        (key,) = {key for _, _, key in flaky.seen}
        assert key


def test_what_cannot_be_repeated_is_sent_once_when_its_answer_is_lost() -> None:
    with Flaky(LOST) as flaky:
        with pytest.raises(Unreachable, match="no answer"):
            once(lambda api: api.disconnect(user="ann"), flaky.url)
        assert len(flaky.seen) == 1


def test_retries_are_bounded_and_a_long_retry_after_is_the_callers() -> None:
    with Flaky(BUSY, BUSY, BUSY) as flaky:
        with pytest.raises(Unavailable) as caught:
            once(lambda api: api.rooms(), flaky.url, retries=2)
        assert (caught.value.code, caught.value.retry_after) == ("overloaded", 0.0)
        assert len(flaky.seen) == 3
    with Flaky(LATER) as flaky:
        with pytest.raises(Unavailable) as caught:
            once_async("rooms", flaky.url)
        assert caught.value.retry_after == 60.0


def test_a_server_that_is_down_is_unreachable_within_the_bounds() -> None:
    with Flaky() as flaky:
        url = flaky.url
    with pytest.raises(Unreachable, match="no answer") as caught:
        once(lambda api: api.publish("lobby", 1), url, retries=1)
    assert (caught.value.status, TOKEN in str(caught.value)) == (None, False)
    with pytest.raises(Unreachable, match="no answer"):
        once_async("publish", url, "lobby", 1, retries=1)


def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match="none in time"):
            once(lambda api: api.rooms(), url, timeout=0.2, retries=0)
        with pytest.raises(Unreachable, match="none in time"):
            once_async("rooms", url, timeout=0.2, retries=0)


@pytest.mark.slow
def test_a_project_with_strict_types_can_use_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from tidegate.api import AsyncServerApi, Published, ServerApi\n\n\n"
        "def paid(api: ServerApi) -> int | None:\n"
        "    names: list[str] = [room.name for room in api.each_room()]\n"
        "    return api.publish(names[0], {'paid': True}).members\n\n\n"
        "async def left(api: AsyncServerApi) -> Published:\n"
        "    return await api.publish('orders', 1, key='x')\n\n\n"
        "def wrong(api: ServerApi) -> None:\n"
        "    api.publish(1, 2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", program.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.count("error:") == 1, done.stdout
    assert "program.py:14: error: Argument 1" in done.stdout
