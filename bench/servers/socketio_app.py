"""python-socketio with its Redis manager: every client is in one room, and `say` sends to all there.

Started as `python socketio_app.py PORT REDIS_URL`.
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


@sio.event
async def connect(sid: str, environ: dict[str, object]) -> None:
    await sio.enter_room(sid, "bench")


@sio.event
async def say(sid: str, data: str) -> None:
    await sio.emit("room_message", data, room="bench")


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(sio),
        port=port,
        loop="uvloop",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_level="warning",
    )
