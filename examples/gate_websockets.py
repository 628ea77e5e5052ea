"""A gate around a `websockets` server: limits, pace, shedding and a waiting room.

python examples/gate_websockets.py 9001
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from websockets.asyncio.server import ServerConnection, serve

from tidegate.policies import ConnectionTracker, LoadShedder, Pacer, Refused, WaitingRoom


async def main(port: int) -> None:
    tracker = ConnectionTracker(connections=1000, per_ip=20)
    pacer = Pacer(rate=500, burst=100)
    room = WaitingRoom(tracker, size=100, max_wait=30, pacer=pacer)

    async def gated(ws: ServerConnection) -> None:
        try:
            shedder.admit()
            pacer.admit(ws.remote_address[0])
            async with await room.acquire(ws.remote_address[0]):
                async for message in ws:
                    await ws.send(message)
        except Refused as refused:
            text = json.dumps({"error": refused.reason, "retryAfter": refused.retry_after})
            await ws.close(refused.close_code or 1013, text)

    async with LoadShedder(tracker) as shedder, serve(gated, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1])))
