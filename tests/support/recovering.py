"""Clients that lose their connection and recover by docs/protocol.md, and a checker of their logs.

They keep no count of offsets and drop nothing that came twice: what they were told is in their log
as it came, so that the checker sees it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.tokens import bearer

__all__ = ["Publisher", "Reader", "faults", "in_order"]

_PRESENCE = frozenset(("presence_state", "user_joined", "user_left", "presence_count"))


def faults(heard: Sequence[str], published: Sequence[str]) -> list[str]:
    """What is wrong with a log of messages that should be all that were published, in order."""
    found = [f"{one} came {count} times" for one, count in Counter(heard).items() if count > 1]
    known = set(published)
    found += [f"{one} was not published" for one in heard if one not in known]
    missing = known.difference(heard)
    found += [f"{one} is missing" for one in published if one in missing]
    order = {one: number for number, one in enumerate(published)}
    numbers = [order[one] for one in dict.fromkeys(heard) if one in order]
    for before, after in pairwise(numbers):
        if before > after:
            found.append(f"{published[after]} came after {published[before]}")
    return found


async def _connect(url: str, user: str, *protocols: str) -> tuple[ClientConnection, dict[str, Any]]:
    """A connection, and its `connected`."""
    offered = [Subprotocol(one) for one in ("tidegate.v1.json", *protocols)]
    connection = await websockets.connect(
        url,
        proxy=None,
        compression=None,
        ping_interval=None,
        open_timeout=30,
        subprotocols=offered,
        additional_headers=dict([bearer(user, expires_in=600)]),
    )
    welcome = json.loads(await connection.recv())
    assert welcome["type"] == "connected", welcome
    return connection, welcome


class Reader:
    """A client that is cut off again and again.

    Args:
        url: where the server is.
        user: its name.
        rooms: what it is a member of.
        resumes: whether it resumes its session; otherwise each connection is a new one.
        dice: decides when it is cut, and how.
    """

    def __init__(
        self, url: str, user: str, rooms: Sequence[str], resumes: bool, dice: random.Random
    ) -> None:
        self.user = user
        self.rooms = rooms
        self.resumes = resumes
        self.heard: dict[str, list[str]] = {room: [] for room in rooms}
        self.directs: list[str] = []
        self.cuts = 0
        self._url = url
        self._dice = dice
        self._positions: dict[str, dict[str, Any]] = {}
        self._asked: set[str] = set()
        self._session = ""
        self._seq = 0
        self._connection: ClientConnection | None = None
        self._abandoned: list[ClientConnection] = []

    async def join(self) -> None:
        """Connect, and be a member of all rooms."""
        await self._open()
        while self._asked:
            await self._read_one()

    async def suffer(self, seconds: float) -> None:
        """Read for a while, cut at random moments."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            # Some are cut while they recover, most of them later.
            span = self._dice.choice((0.05, 4, 4))
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(end, clock() + self._dice.uniform(0, span))):
                    while True:
                        await self._read_one()
            if clock() >= end:
                return
            await self._cut()
            await asyncio.sleep(self._dice.choice((0, 0.1, 1)))
            await self._open()

    async def finish(self, messages: Mapping[str, int], directs: int) -> None:
        """Read until as much has come as was sent, and whatever is still behind that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(30):
                while len(self.directs) < directs or any(
                    len(heard) < messages[room] for room, heard in self.heard.items()
                ):
                    await self._read_one()
        await self._send("health_ping", id="last")
        while await self._read_one() != "health_pong":
            pass

    def leave(self) -> None:
        """End all connections."""
        for connection in (*self._abandoned, self._connection):
            if connection is not None:
                connection.transport.abort()

    async def _open(self) -> None:
        back = bool(self._session and self.resumes)
        shown = [f"tidegate.session.{self._session}.{self._seq}"] if back else []
        self._connection, welcome = await _connect(self._url, self.user, *shown)
        self._session = welcome["session"]
        if back:
            assert (welcome.get("resumed"), welcome.get("recovered")) == (True, True), welcome
            assert sorted(welcome["rooms"]) == sorted(self.rooms)
        self._asked = set(self.rooms)
        for room in self.rooms:
            since = self._positions.get(room)
            with suppress(ConnectionClosed):
                await self._send("join", room=room, id=room, **({"since": since} if since else {}))

    async def _cut(self) -> None:
        connection = self._connection
        assert connection is not None
        self.cuts += 1
        match self._dice.choice(("reset", "reset", "silence" if self.resumes else "close")):
            case "reset":
                connection.transport.abort()
            case "silence":  # the server still thinks that it is there
                self._abandoned.append(connection)
            case "close":
                await connection.close()

    async def _send(self, kind: str, **fields: Any) -> None:
        assert self._connection is not None
        await self._connection.send(json.dumps({"type": kind, **fields}))

    async def _read_one(self) -> str:
        assert self._connection is not None
        message = json.loads(await self._connection.recv())
        match message:
            case {"type": "room_message", "room": room, "data": data, "offset": offset}:
                if room not in self._asked:
                    self.heard[room].append(data)
                    self._positions[room]["offset"] = offset
            case {"type": "direct_message", "data": data, "seq": seq}:
                assert seq == self._seq + 1, f"{self.user}: {message} after {self._seq}"
                self.directs.append(data)
                self._seq = seq
            case {"type": "ack", "id": room, "epoch": epoch, "offset": offset}:
                self._asked.discard(room)
                if room in self._positions:
                    assert message["recovered"], message
                    assert self._positions[room]["epoch"] == epoch
                else:
                    self._positions[room] = {"epoch": epoch, "offset": offset}
            case {"type": "health_pong"}:
                pass
            case _:
                raise AssertionError(f"{self.user} was told {message}")
        return str(message["type"])


class Publisher:
    """A client that stays, writes to rooms and to users, and sees who leaves the rooms.

    Args:
        name: its user.
        rooms: what it writes to.
        users: whom it writes to.
    """

    def __init__(self, name: str, rooms: Sequence[str], users: Sequence[str]) -> None:
        self.name = name
        self.rooms = rooms
        self.users = users
        self.published: dict[str, dict[int, str]] = {room: {} for room in rooms}
        """By offset, as the acks say."""
        self.written: dict[str, list[str]] = {room: [] for room in rooms}
        self.directs: dict[str, list[str]] = {user: [] for user in users}
        self.left: set[str] = set()
        self._number = 0
        self._open: dict[int, tuple[str, str]] = {}
        """What has no ack yet: the room and the text of each."""

    async def run(
        self, url: str, seconds: float, begun: asyncio.Event, dice: random.Random
    ) -> None:
        """Be a member, and write once all others are members too, about six times a second."""
        connection, _ = await _connect(url, self.name)
        reading = asyncio.create_task(self._read(connection))
        for room in self.rooms:
            await self._ask(connection, "join", room=room, presence=True)
        await begun.wait()
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while clock() < end:
            room = dice.choice(self.rooms)
            text = f"{room} {self.name} {len(self.written[room])}"
            self.written[room].append(text)
            await self._ask(connection, "room_message", text, room=room, echo=False, data=text)
            if self.users and not dice.randrange(4):
                user = dice.choice(self.users)
                text = f"{user} {self.name} {len(self.directs[user])}"
                self.directs[user].append(text)
                await self._ask(connection, "direct_message", user=user, data=text)
            await asyncio.sleep(dice.uniform(0, 0.3))
        async with asyncio.timeout(30):
            while self._open:
                await asyncio.sleep(0.05)
        reading.cancel()
        connection.transport.abort()
        with suppress(asyncio.CancelledError):
            await reading

    async def _ask(
        self, connection: ClientConnection, kind: str, text: str = "", **fields: Any
    ) -> None:
        number = self._number = self._number + 1
        self._open[number] = (fields.get("room", ""), text)
        await connection.send(json.dumps({"type": kind, "id": number, **fields}))

    async def _read(self, connection: ClientConnection) -> None:
        async for received in connection:
            match json.loads(received):
                case {"type": "ack", "id": id_} as rest:
                    room, text = self._open.pop(id_)
                    # A session is a connection, also while its client is away.
                    assert rest.get("delivered", 1) == 1, rest
                    if text:
                        offset = int(rest["offset"])
                        assert offset not in self.published[room]
                        self.published[room][offset] = text
                case {"type": "user_left", "users": users}:
                    self.left.update(users)
                case {"type": "room_message"}:
                    pass
                case {"type": kind} if kind in _PRESENCE:
                    pass
                case message:
                    raise AssertionError(f"{self.name} was told {message}")


def in_order(publishers: Sequence[Publisher]) -> dict[str, list[str]]:
    """All that was published, by room, in the order of the offsets; these have no holes."""
    rooms: dict[str, dict[int, str]] = defaultdict(dict)
    for publisher in publishers:
        for room, published in publisher.published.items():
            assert not rooms[room].keys() & published.keys()
            rooms[room].update(published)
    for messages in rooms.values():
        assert sorted(messages) == list(range(1, len(messages) + 1))
    return {room: [messages[n] for n in sorted(messages)] for room, messages in rooms.items()}
