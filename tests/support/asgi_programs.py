"""Applications for `tidegate run` that start in different ways, or do not."""

from __future__ import annotations

import os
from typing import Any

from tests.support.asgi_app import app

__all__ = ["app", "fails", "make", "no_application", "no_database", "shows"]

no_application = 5


def make() -> Any:
    return app


def no_database() -> Any:
    raise OSError("no database")


async def fails(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        message = "Traceback (most recent call last):\n  the database is down\n"
        await send({"type": "lifespan.startup.failed", "message": message})


async def shows(scope: Any, receive: Any, send: Any) -> None:
    """Answers with a variable of the environment and what it knows of the request."""
    if scope["type"] == "http":
        client = scope["client"][0] if scope["client"] else "unix"
        said = f"{os.environ.get('SHOWN', '')} {scope['root_path']} {client}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": said.encode()})
