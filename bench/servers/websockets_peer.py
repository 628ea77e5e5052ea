"""The `websockets` peer: echo on any path, broadcast on /fan.

python websockets_peer.py PORT
"""

import gc
import signal
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

members: set[ServerConnection] = set()


async def handler(connection: ServerConnection) -> None:
    assert connection.request is not None
    if connection.request.path == "/fan":
        members.add(connection)
        try:
            async for message in connection:
                broadcast(members, message)
        finally:
            members.discard(connection)
    else:
        async for message in connection:
            await connection.send(message)


async def main(port: int) -> None:
    # No compression and no keepalive task: the least that an idle connection costs here.
    async with serve(
        handler, "127.0.0.1", port, compression=None, ping_interval=None, backlog=4096
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, lambda *_: gc.collect() and None)
    uvloop.run(main(int(sys.argv[1])))
