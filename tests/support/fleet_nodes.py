"""Several nodes in one loop, with a Valkey or NATS between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.support.native import NativeClient
from tests.support.tokens import SECRET
from tidegate.backplane.nats.backplane import NatsBackplane
from tidegate.backplane.redis.backplane import RedisBackplane
from tidegate.core.settings import Settings
from tidegate.node.control import Control
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node

__all__ = ["FleetNode", "fleet", "until"]

_SECONDS = 20.0


class FleetNode:
    """One node, and how its clients get to it."""

    def __init__(self, url: str, **sections: dict[str, Any]) -> None:
        self.settings = Settings.from_mapping(
            {
                **sections,
                "server": {"port": 0, "shutdown_timeout": 1.0, **sections.get("server", {})},
                "limits": {"per_ip": 1000, "per_user": 1000, **sections.get("limits", {})},
                "auth": {"secret": SECRET, **sections.get("auth", {})},
                "backplane": {"url": url, "timeout": 1, **sections.get("backplane", {})},
            }
        )
        self.node = Node(self.settings, NativeApplication)
        backplane = self.node.backplane
        assert isinstance(backplane, RedisBackplane | NatsBackplane)
        self.backplane = backplane
        self._connectors: list[tuple[Any, Any]] = []

    @property
    def control(self) -> Control:
        return self.node.control

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.node.addresses[0][1]}/ws"

    @property
    def up(self) -> bool:
        """Whether it reaches the server, and hears the others."""
        return self.backplane.up

    async def client(self, user: str | None = None, *protocols: str) -> NativeClient:
        return await NativeClient.at(self.url, user, *protocols)

    async def cut(self) -> None:
        """Take all links away until `join` is called."""
        if isinstance(self.backplane, NatsBackplane):
            link = self.backplane.bus.link
            self._connectors.append((link._servers, link._servers.connect))
            link._servers.connect = _refuses  # type: ignore[method-assign,assignment]  # until `join`
            assert link._wire is not None
            link._wire.end(ConnectionError("cut"))
            await until(lambda: not link.open)
            return
        links = self.backplane.links
        for each in (links.commands, links.listening):
            self._connectors.append((each, each._connector))
            each._connector = _refuses
            assert each._connection is not None
            each._connection._writer.close()  # type: ignore[union-attr]  # it is connected
        await until(lambda: not links.commands.open and not links.listening.open)

    async def join(self) -> None:
        """Let it reach the server again."""
        for owner, connector in self._connectors:
            if isinstance(self.backplane, NatsBackplane):
                owner.connect = connector
            else:
                owner._connector = connector
        self._connectors.clear()
        await until(lambda: self.up)


@asynccontextmanager
async def fleet(url: str, nodes: int = 2, **sections: dict[str, Any]) -> AsyncIterator[Any]:
    """So many nodes, started."""
    made = [FleetNode(url, **sections) for _ in range(nodes)]
    try:
        for one in made:
            await one.node.start()
        yield made
    finally:
        await asyncio.gather(*(one.node.stop(0.2) for one in made))


async def until(condition: Callable[[], object]) -> None:
    """Wait for something, for a long time."""
    async with asyncio.timeout(_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def _refuses(*_: Any) -> Any:
    raise OSError("no way to the server")
