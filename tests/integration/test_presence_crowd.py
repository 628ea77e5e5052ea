"""Random joins, leaves, drops, returns and kicks: what is told of rooms adds up to reality.

Set PRESENCE_MOVES for a longer run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.conftest import Start
from tests.support import aio
from tests.support.process import Process
from tests.support.tokens import SECRET, bearer
from tests.support.watching import View

MOVES = int(os.environ.get("PRESENCE_MOVES", "1000"))
BETWEEN_LOOKS = 250
GRACE = 0.2
ROOMS = [f"room {number}" for number in range(5)]
PEOPLE = [f"user {number}" for number in range(20) for _ in range(2)]
SETTINGS = {
    "auth": {"secret": SECRET},
    "limits": {"per_ip": 10_000},
    "messages": {"per_second": 0, "joins_per_second": 0},
    "rooms": {"rules": [{"pattern": "*", "presence": "members", "presence_grace": GRACE}]},
}


class Device:
    """A client that asks for one thing at a time, and knows in which rooms it is."""

    connection: ClientConnection
    reading: asyncio.Task[None]

    def __init__(self, url: str, user: str) -> None:
        self.user = user
        self.rooms: set[str] = set()
        self.view = View()
        self.open = False
        self.id = ""
        self._url = url
        self._answer: asyncio.Future[dict[str, Any]] | None = None

    async def connect(self) -> None:
        """Open a connection, a new one in no room."""
        self.connection = await connect(
            self._url,
            proxy=None,
            compression=None,
            ping_interval=None,
            open_timeout=60,
            subprotocols=[Subprotocol("tidegate.v1.json")],
            additional_headers=dict([bearer(self.user, expires_in=3600)]),
        )
        self.id = json.loads(await self.connection.recv())["connectionId"]
        self.rooms, self.view, self.open = set(), View(), True
        self.reading = asyncio.create_task(self._read())

    async def ask(self, kind: str, **fields: Any) -> None:
        """Ask for something, and wait until it is done."""
        self._answer = asyncio.get_running_loop().create_future()
        await self.connection.send(json.dumps({"type": kind, "id": 1, **fields}))
        answer = await asyncio.wait_for(self._answer, 60)
        assert answer["type"] != "error", answer

    async def ended(self) -> None:
        """Wait until the connection is gone."""
        await asyncio.wait_for(self.reading, 60)
        self.rooms, self.open = set(), False

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            async for received in self.connection:
                message = json.loads(received)
                self.view.hear(message)
                if message.get("id") == 1 and self._answer is not None:
                    self._answer.set_result(message)
                    self._answer = None
                elif message["type"] == "left":
                    self.view.rooms.pop(message["room"], None)


class Crowd:
    """All devices, and what is done to them."""

    def __init__(self, server: Process, api: httpx.AsyncClient, dice: random.Random) -> None:
        self.devices = [Device(server.url, user) for user in PEOPLE]
        self.done: Counter[str] = Counter()
        self._api = api
        self._dice = dice

    async def move(self) -> None:
        """Do one thing to one device."""
        device = self._dice.choice(self.devices)
        if not device.open:
            self.done["return"] += 1
            await device.connect()
            return
        room = self._dice.choice(ROOMS)
        how = self._dice.choice(("join", "join", "join", "leave", "place", "drop", "kick"))
        if how == "leave" and room not in device.rooms:
            how = "join"
        self.done[how] += 1
        match how:
            case "join":
                await device.ask("join", room=room, presence=True)
                device.rooms.add(room)
            case "leave":
                await device.ask("leave", room=room)
                device.rooms.discard(room)
                device.view.rooms.pop(room, None)
            case "place":
                path = "/rooms/leave" if room in device.rooms else "/rooms/join"
                await self._post(path, room=room, id=device.id)
                device.rooms ^= {room}
            case "drop":
                device.connection.transport.abort()
                await device.ended()
            case "kick" if self._dice.randrange(2):
                await self._post("/disconnect", id=device.id)
                await device.ended()
            case "kick":
                await self._post("/disconnect", user=device.user)
                for one in self.devices:
                    if one.open and one.user == device.user:
                        await one.ended()

    async def look(self) -> None:
        """Fail if what the server and the members say of the rooms does not become the truth."""
        end = asyncio.get_running_loop().time() + 60
        while wrong := [fault for room in ROOMS for fault in await self._faults(room)]:
            assert asyncio.get_running_loop().time() < end, wrong
            await asyncio.sleep(0.1)

    async def _faults(self, room: str) -> list[str]:
        truth = Counter(one.user for one in self.devices if room in one.rooms)
        answer = (await self._api.get("/presence", params={"room": room})).json()
        told = {one["user"]: one["devices"] for one in answer["users"]}
        found = [] if told == dict(truth) else [f"/presence of {room}: {told}, not {dict(truth)}"]
        for one in self.devices:
            known = one.view.rooms.get(room) if one.open else None
            if known is not None and (known.users, known.count) != (set(truth), len(truth)):
                found.append(f"{one.user} knows of {room}: {known}, not {set(truth)}")
        return found

    async def _post(self, path: str, **body: Any) -> None:
        answer = await self._api.post(path, json=body)
        assert answer.status_code == 200, answer.text


def test_presence_is_reality_after_random_moves(serve: Start) -> None:
    server = serve(SETTINGS)

    async def run() -> None:
        base = f"http://127.0.0.1:{server.admin_port}"
        async with httpx.AsyncClient(base_url=base, timeout=60) as api:
            crowd = Crowd(server, api, random.Random(17))
            for number in range(MOVES):
                await crowd.move()
                if number % BETWEEN_LOOKS == BETWEEN_LOOKS - 1:
                    await crowd.look()
            await crowd.look()
            print(dict(crowd.done))
            for one in crowd.devices:
                if one.open:
                    one.connection.transport.abort()
                    await one.ended()
            await crowd.look()

    aio.run(run(), 120 + MOVES / 10)
    server.wait_open(0, 30)
    assert server.stats()["rooms"] == 0
