"""A chat with rooms and a page: python examples/chat.py, then open http://127.0.0.1:8000/

Twenty people fit into a room; others are told so, and when to come back.
"""

import os

import msgspec

from tidegate import Connection, Request, Server, http_response

PAGE = """<!doctype html>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Chat</title>
<form id="enter"><label>Name <input id="who" required></label>
<label>Room <input id="room" value="lobby" required></label> <button>Enter</button></form>
<ul id="said" aria-live="polite"></ul>
<form id="say" hidden>
<input id="text" aria-label="Message" autocomplete="off"> <button>Send</button>
</form>
<script>
const item = () => document.createElement("li");
const show = (textContent) => said.append(Object.assign(item(), {textContent}));
const inside = (yes) => { enter.hidden = yes; say.hidden = !yes; };
enter.onsubmit = (event) => {
  event.preventDefault();
  const path = `/chat/${encodeURIComponent(room.value)}?name=${encodeURIComponent(who.value)}`;
  // A page that offers tidegate.v1 is told why it is refused.
  const ws = new WebSocket(`ws://${location.host}${path}`, ["tidegate.v1"]);
  ws.onmessage = ({data}) => {
    const message = JSON.parse(data);
    show(`${message.by}: ${message.text}`);
    inside(true);
  };
  ws.onclose = ({code, reason}) => {
    show(`closed: ${code} ${reason}`);
    inside(false);
  };
  say.onsubmit = (event) => {
    event.preventDefault();
    ws.send(JSON.stringify({text: text.value}));
    text.value = "";
  };
};
</script>
"""

port = int(os.environ.get("PORT", "8000"))
server = Server(port=port, per_ip=20, per_room=20, messages_per_second=5)


class Said(msgspec.Struct):
    """What a client sends. Anything else is answered with an error."""

    text: str


@server.http
def page(request: Request) -> bytes | None:
    if request.path != "/":
        return None
    return http_response(200, PAGE.encode(), content_type="text/html; charset=utf-8")


@server.route("/chat/{room}")
async def chat(connection: Connection, room: str, request: Request) -> None:
    name = request.query_params.get("name", "somebody")[:20]
    async with connection.join(room) as lobby:
        await lobby.send_json({"by": "chat", "text": f"{name} came; {len(lobby)} are here"})
        async for message in connection.messages(Said):
            await lobby.send_json({"by": name, "text": message.text})
    server.room(room).send_json({"by": "chat", "text": f"{name} left"})


if __name__ == "__main__":
    server.run()
