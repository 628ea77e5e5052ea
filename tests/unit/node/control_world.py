"""A node of the native protocol that runs in the test's loop, with clients of many addresses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.support.clients import Client, until
from tests.support.tokens import SECRET, bearer
from tidegate.core.messaging.history import History
from tidegate.core.messaging.rooms import Rooms
from tidegate.core.settings import RoomsSettings, Settings
from tidegate.engine.states import Admission
from tidegate.node.control import Control
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node
from tidegate.wire.codecs import JSON_V1


def settings_of(**sections: dict[str, Any]) -> Settings:
    """Settings under which clients may say by `X-Forwarded-For` where they come from."""
    return Settings.from_mapping(
        {
            **sections,
            "server": {"port": 0, "shutdown_timeout": 1.0, **sections.get("server", {})},
            "auth": {"secret": SECRET, **sections.get("auth", {})},
            "proxies": {"trusted": ["127.0.0.1"], **sections.get("proxies", {})},
        }
    )


class World:
    """A node and its clients; it runs as an async context manager."""

    def __init__(self, **sections: dict[str, Any]) -> None:
        self.node = Node(settings_of(**sections), NativeApplication)
        self.control: Control = self.node.control
        self._clients: list[Client] = []

    async def __aenter__(self) -> World:
        await self.node.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self._clients:
            client.leave()
        await self.node.stop()

    async def knock(self, user: str | None = None, ip: str = "192.0.2.1") -> Client:
        """A client that has asked for a WebSocket, and not read the answer."""
        client = await Client.at(self.node.addresses[0][1])
        self._clients.append(client)
        headers = [("X-Forwarded-For", ip)]
        if user is not None:
            headers.append(bearer(user))
        await client.knock(JSON_V1, headers=headers)
        return client

    async def open(
        self, user: str | None = None, ip: str = "192.0.2.1", room: str | None = None
    ) -> Client:
        """A client whose WebSocket is open and that has been welcomed, as a member of a room."""
        client = await self.knock(user, ip)
        assert (await client.response()).status == 101
        assert '"connected"' in await client.text()
        if room is not None:
            await client.say(f'{{"type":"join","room":"{room}","id":1}}')
            assert '"ack"' in await client.text()
        return client

    async def refusal(self, user: str | None = None, ip: str = "192.0.2.1") -> str:
        """The reason why an attempt is refused in-band; empty if it is admitted."""
        client = await self.knock(user, ip)
        response = await client.response()
        if response.status != 101:
            return response.headers["x-rejection-reason"]
        frame = await client.frame()
        return frame.reason if frame.opcode == 8 else ""

    async def until_open(self, count: int) -> None:
        """Wait until exactly so many connections hold a lease."""
        await until(lambda: self.node.tracker.open == count)


class Peer:
    """As much of a connection as control sees."""

    def __init__(
        self,
        number: int,
        user: str | None = None,
        tier: str | None = None,
        address: str = "192.0.2.1",
        rooms: tuple[str, ...] = (),
        *,
        closed: bool = False,
        waits: bool = False,
        opened_at: float = 0.0,
        last_active: float = 0.0,
        buffered: int = 0,
    ) -> None:
        self.number = number
        self.id = f"n-{number:x}"
        self.user = user
        self.tier = tier
        self.address = address
        self.transport = "websocket"
        self.rooms = rooms
        self.closed = closed
        self.admission = Admission.WAITING if waits else Admission.ADMITTED
        self.opened_at = opened_at
        self.last_active = last_active
        self.buffered = buffered
        self.ends: list[tuple[str, str]] = []
        """Reason and detail of every call of `end`."""

    @property
    def open(self) -> bool:
        return not self.closed and not self.ends

    def end(self, reason: Any, retry_after: float | None = None, detail: str = "") -> None:
        assert retry_after is None
        self.ends.append((reason.name, detail))


def control_of(peers: list[Peer], **parts: Any) -> Control:
    """The control of a node with these connections; those in a room are its members.

    Args:
        parts: other parts that the node has.
    """
    rooms: Rooms[Any] = Rooms(100_000, 100_000)
    for peer in peers:
        named, peer.rooms = peer.rooms, ()
        for room in named:
            assert rooms.join(peer, room) is None
    known: dict[str, Any] = {
        "engine": SimpleNamespace(
            connections=lambda: iter(peers), shared=SimpleNamespace(name="n")
        ),
        "rooms": rooms,
        "history": History(RoomsSettings(), "node"),
        "sessions": None,
        "backplane": None,
    }
    node: Any = SimpleNamespace(**{**known, **parts})
    return Control(node)
