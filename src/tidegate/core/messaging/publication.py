"""Messages to a room or to a user, as they travel between nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Direct", "Publication"]


@dataclass(slots=True, eq=False)
class Publication:
    """One message to a room. It is shared by everybody who gets it, so nobody changes it.

    `data` is the application's own, encoded: a bytes-like object with a length. `sender` is the
    user who published it and `connection` the id of its connection; both are None for a server.
    Without `echo` that connection does not get it. `binary` says which kind of message it is, where
    the protocol of the application has both.
    """

    room: str
    data: Any
    sender: str | None = None
    connection: str | None = None
    echo: bool = True
    binary: bool = False


@dataclass(slots=True, eq=False)
class Direct:
    """One message to every connection of a user; the fields are as in `Publication`."""

    user: str
    data: Any
    sender: str | None = None
    connection: str | None = None
    binary: bool = False
