"""A client that leaves an application that has stopped asking for messages."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import connect

from tests.support.clients import run_guarded, until
from tidegate.asgi.server import AsgiServer
from tidegate.core.settings import Settings


def test_application_that_never_reads_is_cancelled_after_its_client_has_left() -> None:
    ended: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def main() -> None:
        settings = Settings.from_mapping(
            {
                "server": {"port": 0, "shutdown_timeout": 0.1},
                "messages": {"per_second": 0},
                "pacing": {"enabled": False},
            }
        )
        server = AsgiServer(app, settings, lifespan="off", access_log=False)
        async with server.running():
            await server.node.start()
            port = server.node.addresses[0][1]
            client = await connect(f"ws://127.0.0.1:{port}/", proxy=None, compression=None)
            for _ in range(100):
                await client.send("more than the application takes")
            await until(lambda: next(iter(server.node.connections)).busy)
            client.transport.abort()
            await until(lambda: server.node.tracker.open == 0)
            async with asyncio.timeout(20):
                while not ended:
                    await asyncio.sleep(0.01)
            await server.node.stop()

    run_guarded(main(), 20)
