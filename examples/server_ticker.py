"""Prices from a slow database for each who asks, and news for all.

python examples/server_ticker.py 9001
"""

from __future__ import annotations

import asyncio
import sys

from tidegate import Connection, Server

server = Server(port=int(sys.argv[1]))


@server.route("/prices/{item}")
async def prices(connection: Connection, item: int) -> None:
    async for _ in connection:
        await asyncio.sleep(0.2)  # the database; the others do not wait for it
        connection.send_json({"item": item, "price": 4.2})


@server.task
async def tick() -> None:
    while await asyncio.sleep(0.5, True):
        server.broadcast(f"{len(server.users)} users are here")


server.run()
