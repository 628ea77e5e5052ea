"""A node with an application that notes what it is told, and clients of it."""

from __future__ import annotations

import json
from typing import Any

from tests.support.clients import Client
from tidegate.core.admission.shedding import Profile, Zone
from tidegate.core.settings import Settings
from tidegate.engine.application import Application
from tidegate.engine.connection import Connection
from tidegate.node.node import Node
from tidegate.wire.handshake import Request


class Recorder(Application[Connection]):
    """Sends every message back, and notes what it is told; a `boom` makes it raise."""

    def __init__(self) -> None:
        self.opened_by: list[Connection] = []
        self.closes: list[tuple[int, str]] = []
        self.profiles: list[tuple[Zone, Profile, bool]] = []

    def opened(self, connection: Connection, request: Request, /) -> None:
        self.opened_by.append(connection)

    def message(self, connection: Connection, message: str | bytes, /) -> None:
        if message == "boom":
            raise RuntimeError("of the application")
        connection.send(message)

    def closed(self, connection: Connection, code: int, text: str, /) -> None:
        self.closes.append((code, text))

    def profile_changed(self, zone: Zone, profile: Profile, degraded: bool, /) -> None:
        self.profiles.append((zone, profile, degraded))


class World:
    """A node with a `Recorder`, and its clients; as an async context manager it runs."""

    def __init__(self, **sections: dict[str, Any]) -> None:
        self.recorder = Recorder()
        self.node = Node(settings_of(**sections), lambda _services: self.recorder)
        self.clients: list[Client] = []

    async def __aenter__(self) -> World:
        await self.node.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self.clients:
            client.leave()
        await self.node.stop()

    @property
    def port(self) -> int:
        return self.node.addresses[0][1]

    @property
    def connection(self) -> Connection:
        """The last that was opened."""
        return self.recorder.opened_by[-1]

    async def open(self) -> Client:
        client = await Client.open(self.port)
        self.clients.append(client)
        return client

    async def status(self) -> tuple[int, str | None]:
        """The status that an attempt gets now, and the reason where it is refused."""
        client = await Client.at(self.port)
        self.clients.append(client)
        response = await client.ask()
        return response.status, response.headers.get("x-rejection-reason")

    def disconnected(self) -> dict[str, int]:
        return {name: count for name, count in self.node.stats.disconnected.items() if count}


def settings_of(**sections: dict[str, Any]) -> Settings:
    server = {"port": 0, "shutdown_timeout": 1.0, **sections.pop("server", {})}
    return Settings.from_mapping({"server": server, "pacing": {"enabled": False}, **sections})


def idle_node(**sections: dict[str, Any]) -> Node:
    """A node that does not run."""
    return World(**sections).node


async def admitted(client: Client) -> None:
    """Read what a native client is told while it waits, up to its welcome."""
    said = json.loads(await client.text())
    while said["type"] == "queue_status":
        said = json.loads(await client.text())
    assert said["type"] == "connected"
