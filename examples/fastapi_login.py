"""An echo for people who have logged in, by a session cookie.

tidegate run examples.fastapi_login:app
"""

from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from starlette.requests import HTTPConnection

from tidegate.fastapi import Gate, Member

SESSIONS = {"5f3a9c": "ann", "b81e02": "bob"}  # yours are in a database
gate = Gate(per_user=2)
app = FastAPI(lifespan=gate.lifespan)
app.add_middleware(gate.middleware)


async def who(connection: HTTPConnection) -> str:
    if user := SESSIONS.get(connection.cookies.get("session", "")):
        return user
    raise HTTPException(401, "log in first")


@app.websocket("/echo")
async def echo(member: Annotated[Member[str, str], Depends(gate.member(user=who))]) -> None:
    async for text in member:
        await member.send(text)
