"""The uvicorn peer with bare Starlette endpoints: echo on /echo, broadcast on /fan.

python uvicorn_peer.py PORT
"""

import gc
import signal
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

members: set[WebSocket] = set()


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    async for message in socket.iter_text():
        await socket.send_text(message)


async def fan(socket: WebSocket) -> None:
    await socket.accept()
    members.add(socket)
    try:
        async for message in socket.iter_text():
            for member in list(members):
                await member.send_text(message)
    except WebSocketDisconnect:
        pass
    finally:
        members.discard(socket)


app = Starlette(routes=[WebSocketRoute("/echo", echo), WebSocketRoute("/fan", fan)])

if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, lambda *_: gc.collect() and None)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        backlog=4096,
        lifespan="off",
        access_log=False,
        log_level="critical",
    )
