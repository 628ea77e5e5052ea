"""Messages to a room, to a user or to all, as they travel between nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Direct", "Publication"]


@dataclass(slots=True, eq=False)
class Publication:
    """One message to a room, or to all connections where `room` is empty.

    It is shared by everybody who gets it, so nobody changes it.

    `data` is the application's own, encoded: a bytes-like object with a length. `sender` is the
    user who published it and `connection` the id of its connection; both are None for a server.
    Without `echo` that connection does not get it. `binary` says which kind of message it is, where
    the protocol of the application has both.

    `packed` is `data` in MessagePack, where it came so, or as bytes: `data` is JSON then.

    The broker fills in the rest: `epoch` and `offset` where the room keeps a history (the first
    message has offset 1), `timestamp` in Unix seconds where its rule asks for one.
    """

    room: str
    data: Any
    sender: str | None = None
    connection: str | None = None
    echo: bool = True
    binary: bool = False
    epoch: str = ""
    offset: int = 0
    timestamp: float | None = None
    packed: Any = None


@dataclass(slots=True, eq=False)
class Direct:
    """One message to every connection of a user; the fields are as in `Publication`."""

    user: str
    data: Any
    sender: str | None = None
    connection: str | None = None
    binary: bool = False
    packed: Any = None
    origin: tuple[str, int] | None = None
    """The node that sent it, and its number there; None where there is one node."""
