"""The protocol with the package `websockets` alone: join, publish, history, wait, resume.

    python examples/client_websockets.py ws://127.0.0.1:8000/ws lobby

It says what comes, publishes each line that you type, and comes back when the server wants it to.
A token goes into the environment, as TIDEGATE_TOKEN. `tidegate.client` does all that for you.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import threading
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

STABLE = 10.0  # seconds after which a connection counts as good
GIVE_UP = (1000, 1002, 1007, 1008, 1009)  # and all from 4500 on: docs/protocol.md, "Close codes"


class StopError(Exception):
    """The server does not want this client back."""


class Client:
    """One connection after the other, and what goes from one to the next."""

    def __init__(self, url: str, room: str, token: str | None) -> None:
        self.url = url
        self.room = room
        self.token = token
        self.session: str | None = None
        self.seq = 0  # of the last direct message
        self.position: dict[str, Any] | None = None  # of the last message of the room
        self.slot: float | None = None  # when the server wants to have us back
        self.failures = 0
        self.socket: ClientConnection | None = None

    async def run(self) -> None:
        """Stay connected until the server says that this is over."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                offered = [Subprotocol("tidegate.v1.json")]
                if self.token:
                    offered.append(Subprotocol(f"tidegate.token.{self.token}"))
                if self.session:
                    offered.append(Subprotocol(f"tidegate.session.{self.session}.{self.seq}"))
                async with connect(self.url, subprotocols=offered) as self.socket:
                    async for message in self.socket:
                        await self.receive(json.loads(message))
                    close = self.socket.close_code, self.socket.close_reason
                delay = self.after(*close)
            except ConnectionClosed as lost:
                delay = self.after(lost.rcvd.code, lost.rcvd.reason) if lost.rcvd else self.jitter()
            except InvalidStatus as refused:
                delay = self.refused(refused)
            except OSError as error:
                print(f"! {error}")
                delay = self.jitter()
            self.socket = None
            if loop.time() - began > STABLE:
                self.failures = 0
            self.failures += 1
            if self.slot is not None:
                delay = max(delay, self.slot - loop.time())
                self.slot = None
            print(f"! again in {delay:.1f} s", flush=True)
            await asyncio.sleep(delay)

    def jitter(self) -> float:
        """A random part, longer with each failure, so that clients come back spread out."""
        return max(0.1, random.random() * min(30.0, 2.0**self.failures))

    def after(self, code: int | None, reason: str | None) -> float:
        """Seconds until the next attempt, by a close frame."""
        try:
            said = json.loads(reason or "")
        except ValueError:
            said = {}
        error = said.get("error", f"closed with {code}")
        print(f"! {error}")
        if (code in GIVE_UP or (code or 0) >= 4500) or said.get("retryAfter", 0) is None:
            raise StopError(error)
        given = float(said.get("retryAfter", 5))
        # A slot is this client's own; any other delay is that of many.
        return max(0.1, given) if error in ("rate_limited", "drained") else given + self.jitter()

    def refused(self, refused: InvalidStatus) -> float:
        """The same by an HTTP status, of the server or of a proxy before it."""
        headers, status = refused.response.headers, refused.response.status_code
        error = headers.get("X-Rejection-Reason", f"HTTP {status}")
        print(f"! {error}")
        if status < 500 and status not in (408, 429):
            raise StopError(error)
        given = float(headers.get("Retry-After", "5"))
        return max(0.1, given) if error == "rate_limited" else given + self.jitter()

    async def receive(self, message: dict[str, Any]) -> None:
        """Do what a message of the server asks for."""
        match message["type"]:
            case "queue_status":
                print(f"* waiting: {message['position']} of {message['totalInQueue']}", flush=True)
            case "connected":
                self.session = message.get("session")
                resumed = message.get("resumed", False)
                if not resumed:
                    self.seq = 0
                print(f"* connected{', resumed' if resumed else ''}", flush=True)
                # With a position the server sends what was missed, and what is in the history else.
                join = {"type": "join", "room": self.room, "history": 10, "id": "join"}
                await self.send({**join, "since": self.position} if self.position else join)
            case "ack" if message["id"] == "join":
                if not message.get("recovered", True):
                    print("* messages were missed", flush=True)
                if "epoch" in message and not (self.position and message.get("recovered")):
                    self.position = {"epoch": message["epoch"], "offset": message["offset"]}
                print("* joined", flush=True)
            case "room_message":
                if self.position and "offset" in message:
                    self.position["offset"] = max(self.position["offset"], message["offset"])
                print(f"{message['from'] or 'anonymous'}: {message['data']}", flush=True)
            case "direct_message":
                self.seq = message.get("seq", self.seq)
                print(f"{message['from']}, to you: {message['data']}", flush=True)
            case "server_shutdown":
                self.slot = asyncio.get_running_loop().time() + message["reconnectDelay"]
            case "gap":
                join = {"type": "join", "room": self.room, "id": "join", "since": self.position}
                await self.send(join)
            case "error":
                print(f"! {message['code']}: {message['message']}", flush=True)

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message, if there is a connection."""
        if self.socket is None:
            print("! not connected", flush=True)
        else:
            await self.socket.send(json.dumps(message))


def type_lines(client: Client, loop: asyncio.AbstractEventLoop) -> None:
    """Publish what comes on standard input."""
    for line in sys.stdin:
        message = {"type": "room_message", "room": client.room, "data": line.rstrip("\n")}
        asyncio.run_coroutine_threadsafe(client.send(message), loop)


async def main() -> None:
    """Talk until the server or the user ends it."""
    client = Client(sys.argv[1], sys.argv[2], os.environ.get("TIDEGATE_TOKEN"))
    # In a thread that does not keep the program alive: nobody can end the wait for a line.
    loop = asyncio.get_running_loop()
    threading.Thread(target=type_lines, args=(client, loop), daemon=True).start()
    try:
        await client.run()
    except StopError as error:
        print(f"! not again: {error}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
