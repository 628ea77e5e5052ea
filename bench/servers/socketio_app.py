"""python-socketio with its Redis manager: all clients are in one room.

`say` sends to all of them. Started as `python socketio_app.py PORT REDIS_URL`.
"""

import sys

import socketio
import uvicorn

port, url = int(sys.argv[1]), sys.argv[2]
sio = socketio.AsyncServer(
    async_mode="asgi",
    client_manager=socketio.AsyncRedisManager(url),
    cors_allowed_origins=[],
    ping_interval=300,
)


async def connect(sid: str, _environ: dict[str, object]) -> None:
    await sio.enter_room(sid, "bench")


async def say(_sid: str, data: str) -> None:
    await sio.emit("room_message", data, room="bench")


sio.on("connect", connect)
sio.on("say", say)

if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(sio),
        port=port,
        loop="uvloop",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_level="warning",
    )
