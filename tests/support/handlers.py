"""A server whose handlers do what messages tell them to: wait, raise, close, send a lot.

Every end of a connection is printed as a line of JSON. Settings come from the file that the
environment names; the admin listener is there too. Arguments are its subprotocols.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support import SECRET_DETAIL
from tidegate import Connection, Request
from tidegate.library.handlers import Handlers
from tidegate.node import health
from tidegate.node.node import Node
from tidegate.node.services import Services
from tidegate.server import runtime
from tidegate.server.config import load
from tidegate.wire.handshake import Request as Head

busy: dict[str, int] = {}


def on_connect(connection: Connection, request: Request) -> Any:
    if request.query == "raise":
        raise RuntimeError(SECRET_DETAIL)
    if request.query == "slow":
        return slow_connect(connection)
    if request.query == "leave":
        connection.close(4002, "not now")
    if request.query == "greet":
        connection.send("hello")
    return None


async def slow_connect(connection: Connection) -> None:
    await asyncio.sleep(0.3)
    connection.send("connected")


def on_message(connection: Connection, message: str | bytes) -> Any:
    if isinstance(message, bytes):
        connection.send(message)
        return None
    command, *args = message.split(" ")
    if command == "raise":
        raise RuntimeError(SECRET_DETAIL)
    if command in ASYNC:
        return ASYNC[command](connection, *args)
    if command == "close":
        connection.close(int(args[0]), " ".join(args[1:]))
    elif command == "flood":
        for _ in range(int(args[0])):
            connection.send(bytes(int(args[1])))
    elif command == "block":
        time.sleep(float(args[0]))  # the loop stands still
    elif command == "name":
        connection.send(connection.id)
    elif command != "quiet":
        connection.send(message)
    return None


async def sleep(connection: Connection, seconds: str) -> None:
    await asyncio.sleep(float(seconds))
    connection.send(f"slept {seconds}")


async def fail(connection: Connection) -> None:
    await asyncio.sleep(0)
    raise RuntimeError(SECRET_DETAIL)


async def jitter(connection: Connection, number: str) -> None:
    """Answer after a random time, and say so if a second handler of this connection runs."""
    busy[connection.id] = busy.get(connection.id, 0) + 1
    await asyncio.sleep(random.random() / 500)
    connection.send(number if busy[connection.id] == 1 else f"{number} overlaps")
    busy[connection.id] -= 1


ASYNC: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "sleep": sleep,
    "fail": fail,
    "jitter": jitter,
}


def on_close(connection: Connection, code: int, reason: str) -> None:
    print(json.dumps({"id": connection.id, "code": code, "reason": reason}), flush=True)
    if reason == "raise":
        raise RuntimeError(SECRET_DETAIL)


class Answering(Handlers):
    """Also tells how the node is."""

    def __init__(self, services: Services) -> None:
        super().__init__(services.settings, sys.argv[1:])
        self._health = services.health

    def respond(self, request: Head, address: str) -> bytes | None:
        if request.path == "/raise":
            raise RuntimeError(SECRET_DETAIL)
        return health.respond(request, self._health)


def application(services: Services) -> Handlers:
    """As `tidegate.Server` makes it, with `/health` and `/ready`."""
    handlers = Answering(services)
    handlers.use("on_connect", on_connect)
    handlers.use("on_message", on_message)
    handlers.use("on_close", on_close)
    return handlers.serve(services, tuple)


if __name__ == "__main__":
    runtime.run(Node(load(environment=os.environ).settings, application))
