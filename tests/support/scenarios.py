"""Plays the client's part of clients/scenarios against the Python client; see its README.md."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec

from tests.support.process import ROOT
from tests.support.virtual_clock import VirtualClock
from tidegate.client import (
    Broadcast,
    Client,
    ClientError,
    Connected,
    Direct,
    Gap,
    Joined,
    Left,
    Presence,
    Publication,
    QueueStatus,
    Room,
    RoomAdded,
    Shutdown,
    StateChange,
    System,
)

__all__ = ["NAMES", "play", "scripted_server"]

FOLDER = ROOT / "clients" / "scenarios"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
PATIENCE = 20.0
"""Seconds to wait for anything, on a busy machine."""

CLIENT_EVENTS: Mapping[str, type[Any]] = {
    "state": StateChange,
    "connected": Connected,
    "waiting": QueueStatus,
    "direct": Direct,
    "broadcast": Broadcast,
    "system": System,
    "shutdown": Shutdown,
    "room": RoomAdded,
    "error": ClientError,
}
ROOM_EVENTS: Mapping[str, type[Any]] = {
    "message": Publication,
    "joined": Joined,
    "left": Left,
    "presence": Presence,
    "gap": Gap,
    "error": ClientError,
}
LENIENT = {"connected", "system", "shutdown", "presence"}
"""Events that no step needs to ask for."""

Step = Mapping[str, Any]


@contextmanager
def scripted_server() -> Iterator[int]:
    """The server of the scenarios; its port."""
    server = subprocess.Popen(
        [sys.executable, FOLDER / "server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.stdin.close()
        server.stdout.close()
        server.wait(PATIENCE)


async def play(name: str, port: int, codec: str) -> list[str]:
    """Play a scenario; returns what went wrong."""
    path = f"/{name}/{codec}"
    problems = []
    try:
        await _Player(FOLDER / f"{name}.json", port, path, codec).play()
    except Exception as error:
        problems.append(f"{type(error).__name__}: {error}")
    report = await _get(port, f"{path}/report")
    return [*problems, *report["problems"]]


async def _get(port: int, path: str) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    return json.loads(body)


def matches(pattern: Any, value: Any) -> bool:
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            key in value and matches(each, value[key]) for key, each in pattern.items()
        )
    if isinstance(pattern, list):
        return (
            isinstance(value, list)
            and len(pattern) == len(value)
            and all(map(matches, pattern, value))
        )
    return isinstance(pattern, bool) is isinstance(value, bool) and bool(pattern == value)


def plain(event: object) -> Any:
    """An event, with the keys that the scenarios have."""
    match event:
        case ClientError():
            return {"code": event.code}
        case RoomAdded():
            return {"name": event.room}
        case Presence():
            return {"count": event.count, "users": sorted(event.users)}
        case StateChange():
            loss = {"code": 1000} if event.loss is None else msgspec.to_builtins(event.loss)
            return {"state": str(event.state), "delay": event.delay, **loss}
        case _:
            return json.loads(msgspec.json.encode(event))


class _Log:
    """What has happened and was not asked for yet, by kind."""

    def __init__(self) -> None:
        self._events: defaultdict[str, deque[Any]] = defaultdict(deque)
        self._changed = asyncio.Event()

    def add(self, kind: str, event: object) -> None:
        self._events[kind].append(plain(event))
        self._changed.set()

    async def next(self, kind: str) -> Any:
        try:
            async with asyncio.timeout(PATIENCE):
                while not self._events[kind]:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{kind} did not come; there is {self.rest()}") from None
        return self._events[kind].popleft()

    def rest(self) -> dict[str, list[Any]]:
        return {kind: list(events) for kind, events in self._events.items() if events}


class _Player:
    def __init__(self, file: Path, port: int, path: str, codec: str) -> None:
        scenario = json.loads(file.read_text(encoding="utf-8"))
        self.steps: list[Step] = scenario["client"]
        options = scenario["options"]
        self.clock = VirtualClock(options.get("random"))
        self.port = port
        self.path = path
        self.client = Client(
            f"ws://127.0.0.1:{port}{path}",
            codec=cast("Any", codec),
            token=_tokens(options.get("token")),
            queue_size=options.get("queueSize", 100),
            queue_policy=options.get("queuePolicy", "refuse"),
            max_message_size=options.get("maxMessageSize", 4 << 20),
            clock=self.clock,
        )
        self.log = _Log()
        self.rooms: set[str] = set()
        self.results: dict[str, asyncio.Task[Any]] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        for kind, of in CLIENT_EVENTS.items():
            self.client.on(of, self._listener(kind))

    def _listener(self, kind: str) -> Callable[[Any], None]:
        def listen(event: Any) -> None:
            if isinstance(event, RoomAdded):
                self.room(event.room)
            self.log.add(kind, event)

        return listen

    def room(self, name: str, **options: Any) -> Room:
        room = self.client.room(name, **options)
        if name not in self.rooms:
            self.rooms.add(name)
            for kind, of in ROOM_EVENTS.items():
                room.on(of, self._listener(f"{kind} of {name}"))
        return room

    async def play(self) -> None:
        self.client.start()
        try:
            for number, step in enumerate(self.steps, 1):
                try:
                    await self.step(step)
                except Exception as error:
                    raise AssertionError(f"step {number}, {json.dumps(step)}: {error}") from error
        finally:
            async with asyncio.timeout(PATIENCE):
                await self.client.close()
                await asyncio.gather(*self.tasks, return_exceptions=True)
        rest = {
            kind: events
            for kind, events in self.log.rest().items()
            if kind.split()[0] not in LENIENT
        }
        assert not rest, f"unexpected events: {rest}"
        assert not len(self.clock), f"{len(self.clock)} timers are left"

    async def step(self, step: Step) -> None:
        if "state" in step:
            await self._state(**step)
        elif "event" in step:
            kind, room = step["event"], step.get("room")
            event = await self.log.next(f"{kind} of {room}" if room else kind)
            assert matches(step.get("match", {}), event) or "match" not in step, f"it is {event}"
        elif "is" in step:
            assert self.client.state == step["is"], f"it is {self.client.state}"
        elif "arrived" in step:
            await _get(self.port, f"{self.path}/arrived/{step['arrived']}")
        elif "advance" in step:
            self.clock.advance(step["advance"])
        elif "result" in step:
            await self._result(**step)
        elif step["do"] == "connect":
            self.client.start()
        elif step["do"] == "abort":
            self.results[step["as"]].cancel()
            await asyncio.sleep(0)
        else:
            task = asyncio.ensure_future(self._begin(**step))
            self.tasks.add(task)
            if "as" in step:
                self.results[step["as"]] = task
            await asyncio.sleep(0)  # it runs up to where it waits

    async def _state(
        self, state: str, delay: Mapping[str, float] | None = None, **rest: Any
    ) -> None:
        event = await self.log.next("state")
        assert event["state"] == state, f"it is {event}"
        assert matches(rest, event), f"it is {event}"
        if delay is not None:
            least, most = delay["atLeast"] - 1e-6, delay["atMost"] + 1e-6
            assert least <= event["delay"] <= most, f"the delay is {event['delay']}"

    async def _result(
        self,
        result: str,
        match: Any = None,
        fails: str | None = None,
        retryAfter: float | None = None,
    ) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([self.results[result]])
        task = self.results[result]
        if task.cancelled():
            assert fails == "aborted", "it was given up"
            return
        error = task.exception()
        if isinstance(error, ClientError):
            # In Python to give up is to cancel, and leaving a room says so.
            assert fails == {"left": "aborted"}.get(error.code, error.code), f"{error}"
            assert retryAfter is None or error.retry_after == retryAfter, f"{error.retry_after}"
            return
        value = task.result()
        assert fails is None, f"it is {value}"
        # The type of an answer is its class.
        assert match is None or matches(match, {"type": "ack", **plain(value)}), f"it is {value}"

    def _begin(self, do: str, **step: Any) -> Coroutine[Any, Any, Any]:
        more = {key: step[key] for key in ("timeout", "ack") if key in step}
        match do:
            case "close":
                return self.client.close()
            case "join":
                options = {key: step[key] for key in ("history", "presence") if key in step}
                return self.room(step["room"], **options).join()
            case "leave":
                return self.room(step["room"]).leave()
            case "publish":
                room, data = self.room(step["room"]), step["data"]
                return room.publish(data, echo=step.get("echo"), **more)
            case "history":
                return self.room(step["room"]).history(step.get("limit"))
            case "direct":
                return self.client.direct(step["user"], step["data"], **more)
            case "ping":
                return self.client.ping(**more)
        raise AssertionError(f"no such action: {do}")


def _tokens(given: Any) -> Any:
    if not isinstance(given, list):
        return given
    left = deque(given)

    async def next_token() -> str | None:
        token: Any = left.popleft()
        if isinstance(token, dict):
            raise RuntimeError(token["fails"])
        return cast("str | None", token)

    return next_token
