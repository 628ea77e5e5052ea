"""A chat with rooms: everybody in a room reads what is written there.

python examples/server_chat.py 9001
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tidegate import Connection, Request, Server

server = Server(port=int(sys.argv[1]), per_ip=20, per_room=50)


@dataclass
class Say:
    text: str


@server.route("/chat/{room}")
async def chat(connection: Connection, request: Request, room: str) -> None:
    name = request.query_params.get("name", "somebody")
    async with connection.join(room) as lobby:
        async for said in connection.messages(Say):
            await lobby.send_json({"by": name, "text": said.text})


server.run()
