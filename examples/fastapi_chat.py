"""A chat with lobbies and a page, on FastAPI. Open http://127.0.0.1:8000/?lobby=tea&user=ann

uvicorn examples.fastapi_chat:app
"""

from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from tidegate.fastapi import Gate, Hub, Member

PAGE = """<!doctype html>
<title>Chat</title>
<ul id="said"></ul>
<form id="form"><input id="text" autocomplete="off" autofocus> <button>Send</button></form>
<script>
const query = new URLSearchParams(location.search);
const item = () => document.createElement("li");
const show = (textContent) => said.append(Object.assign(item(), {textContent}));
const lobby = encodeURIComponent(query.get("lobby") ?? "hall");
// A page that offers tidegate.v1 is told why it is refused.
const ws = new WebSocket(`ws://${location.host}/ws/${lobby}${location.search}`, ["tidegate.v1"]);
ws.onmessage = ({data}) => {
  const message = JSON.parse(data);
  show(message.type === "error" ? message.detail : `${message.by}: ${message.text}`);
};
ws.onclose = ({code, reason}) => show(`closed: ${code} ${reason}`);
form.onsubmit = (event) => {
  event.preventDefault();
  ws.send(JSON.stringify({text: text.value}));
};
</script>
"""


class ChatIn(BaseModel):
    text: str = Field(min_length=1, max_length=500)


class ChatOut(BaseModel):
    by: str
    text: str


gate = Gate(per_ip=20, per_user=2, per_room=50)
app = FastAPI(lifespan=gate.lifespan)
app.add_middleware(gate.middleware)


async def current_user(connection: HTTPConnection) -> str:
    user = connection.query_params.get("user", "")
    if not user.isalnum():
        raise HTTPException(401, "say who you are: ?user=NAME")
    return user


Guest = Annotated[Member[ChatIn, ChatOut], Depends(gate.member(user=current_user))]


@app.websocket("/ws/{lobby}")
@gate.limit(messages_per_second=5)
async def chat(lobby: str, member: Guest) -> None:
    async with member.join(lobby) as room:
        await room.send(ChatOut(by="chat", text=f"in {lobby}: {', '.join(room.users)}"))
        async for message in member:
            await room.send(ChatOut(by=str(member.user), text=message.text))


@app.post("/lobbies/{lobby}")
async def announce(lobby: str, text: str, hub: Annotated[Hub, Depends(gate.hub)]) -> dict[str, int]:
    return {"reached": await hub.room(lobby).send(ChatOut(by="system", text=text))}


@app.get("/")
async def page() -> HTMLResponse:
    return HTMLResponse(PAGE)
