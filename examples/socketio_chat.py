"""A Socket.IO chat behind the gate. Clients say who they are in `auth`.

tidegate run examples.socketio_chat:app

In a page: io("http://127.0.0.1:8000", {transports: ["websocket"], auth: {user: "ann"}})
"""

from typing import Any

import socketio

from tidegate.socketio import Refused, guard


def who(_environ: dict[str, Any], auth: Any) -> str:
    """Whose connection it is; yours asks a database, and may be async."""
    user = auth.get("user") if isinstance(auth, dict) else None
    if not isinstance(user, str) or not user.isalnum():
        raise Refused("unauthorized", "say who you are: auth: {user: NAME}")
    return user


sio = socketio.AsyncServer(async_mode="asgi")
gate = guard(sio, identify=who, per_ip=20, per_user=2)
app = socketio.ASGIApp(sio)


@sio.event
async def connect(sid: str, environ: dict[str, Any], _auth: Any) -> None:
    user = environ["tidegate"]["user"]
    await sio.save_session(sid, {"user": user})
    await sio.enter_room(sid, "lobby")
    await sio.emit("said", {"by": "chat", "text": f"{user} came"}, room="lobby")


@sio.event
async def say(sid: str, text: str) -> None:
    session = await sio.get_session(sid)
    await sio.emit("said", {"by": session["user"], "text": str(text)[:500]}, room="lobby")
