"""The admin API of a node that does not listen, asked in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx

from tidegate.core.settings import Settings
from tidegate.node.control import Control
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node
from tidegate.server.admin import admin_app
from tidegate.server.timeline import Timeline

TOKEN = "a-token-of-the-operator"
LOCAL = "http://127.0.0.1:8001"


def node_of(**sections: Any) -> Node:
    """A node that is made, and does not listen."""
    return Node(Settings.from_mapping(sections), NativeApplication)


def ask(
    path: str,
    control: Control | None = None,
    method: str = "GET",
    *,
    token: str | None = None,
    hosts: Sequence[str] = (),
    base: str = LOCAL,
    **options: Any,
) -> httpx.Response:
    """One request; without a control, to a node with the default settings."""

    async def request() -> httpx.Response:
        node = node_of() if control is None else None
        asked = control or node.control  # type: ignore[union-attr]
        settings = Settings.from_mapping({"admin": {"token": token}, "server": {"hosts": hosts}})
        app = admin_app(
            asked,
            settings,
            lambda: (3, *(0,) * 6),
            Timeline(asked.sample),
            {"limits.per_ip": "a.toml:3"},
        )
        try:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url=base) as client:
                return await client.request(method, path, **options)
        finally:
            if node is not None:
                node.engine.shared.poller.close()

    return asyncio.run(request())
