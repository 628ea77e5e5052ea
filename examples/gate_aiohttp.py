"""A gate around an aiohttp application: refusals before the upgrade, with status and delay.

python examples/gate_aiohttp.py 9001
"""

from __future__ import annotations

import sys

from aiohttp import web

from tidegate.policies import ConnectionTracker, Pacer, Refused

tracker = ConnectionTracker(connections=1000, per_ip=20)
pacer = Pacer(rate=500, burst=100)


async def echo(request: web.Request) -> web.StreamResponse:
    address = request.remote or ""
    try:
        pacer.admit(address)
        lease = tracker.acquire(address)
    except Refused as refused:
        return web.json_response(
            {"error": refused.reason}, status=refused.status or 503, headers=refused.headers
        )
    with lease:
        ws = web.WebSocketResponse(heartbeat=30)
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data)
        return ws


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.get("/", echo)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))
