# client.py
import json
import sys
from typing import Any

from websockets.sync.client import connect
from websockets.typing import Subprotocol

PROTOCOL = Subprotocol("tidegate.v1.json")
URL = "ws://127.0.0.1:8000/ws"
ROOM = "chat:tea"


class Chat:
    """A client that remembers where it was, and gets what it missed when it comes back."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.position: dict[str, Any] | None = None

    def __enter__(self) -> "Chat":
        headers = {"Authorization": f"Bearer {self.token}"}
        self.ws = connect(URL, subprotocols=[PROTOCOL], additional_headers=headers)
        self.hear()  # "connected"
        join = {"type": "join", "room": ROOM, "history": 50, "id": 1}
        if self.position is not None:
            join["since"] = self.position
        answer = self.ask(join)
        self.recovered = answer.get("recovered", False)
        if not self.recovered:
            self.position = {"epoch": answer["epoch"], "offset": answer["offset"]}
        return self

    def __exit__(self, *error: object) -> None:
        self.ws.close()

    def say(self, text: str) -> None:
        """Publish a text, and hear the room up to it."""
        said = {"type": "room_message", "room": ROOM, "data": {"text": text}, "id": 2}
        offset = self.ask(said)["offset"]
        while self.position is None or self.position["offset"] < offset:
            self.hear()

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message and return its answer; messages of the room that come before are shown."""
        self.ws.send(json.dumps(message))
        while (answer := self.hear()).get("id") != message["id"]:
            pass
        return answer

    def hear(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the next message; one of the room is shown."""
        message: dict[str, Any] = json.loads(self.ws.recv(timeout))
        if message["type"] == "room_message":
            assert self.position is not None
            self.position["offset"] = message["offset"]
            print(f"{message['from'] or 'server'}: {message['data']['text']}")
        return message


if __name__ == "__main__":
    token, *texts = sys.argv[1:]
    with Chat(token) as chat:
        for text in texts:
            chat.say(text)
        while True:
            chat.hear()
