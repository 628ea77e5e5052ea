"""An echo for people who have logged in, by a session cookie.

python examples/server_login.py 9001
"""

from __future__ import annotations

import sys

from tidegate import Connection, Refused, Request, Server, refuse

SESSIONS = {"5f3a9c": "ann", "b81e02": "bob"}  # yours are in a database: make `who` async
server = Server(port=int(sys.argv[1]), per_user=2)


@server.identify
def who(request: Request) -> str | Refused:
    return SESSIONS.get(request.cookies.get("session", "")) or refuse("unauthorized")


@server.route("/echo")
async def echo(connection: Connection) -> None:
    async for message in connection:
        connection.send(message)


server.run()
