"""The states of a connection, and the moves between them.

A connection is OPEN from the moment it exists. It ends by one of three ways:

- A close frame of ours goes out: CLOSING. What was sent before still goes out, what the peer
  sends is read and dropped, and its close frame, its end or the deadline ends the connection.
- One side is done for good: ENDING. After a violation of the protocol nothing more is read; after
  the peer's close frame, and on a stream of events, nothing more is expected. What waits in the
  outbox still goes out.
- The socket is gone, or is to go at once: CLOSED. The socket is closed, the lease is given back,
  and the application is told. Nothing leads out of it.

A connection leaves OPEN and enters CLOSED exactly once, so whatever is tied to these two happens
once: the close frame, the release of the lease, the call of `Application.closed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

__all__ = ["CLOSED", "CLOSING", "ENDING", "MOVES", "OPEN", "Admission", "State"]


class State(Enum):
    """Where in its life a connection is."""

    OPEN = "open"
    CLOSING = "closing"
    ENDING = "ending"
    CLOSED = "closed"

    __hash__ = object.__hash__  # by identity, as they are compared; that of `Enum` is slow


OPEN: Final = State.OPEN
CLOSING: Final = State.CLOSING
ENDING: Final = State.ENDING
CLOSED: Final = State.CLOSED

MOVES: Final[Mapping[State, Mapping[State, str]]] = {
    OPEN: {
        CLOSING: "our close frame goes out",
        CLOSED: "the socket is gone or the connection is aborted",
    },
    CLOSING: {
        ENDING: (
            "we close for a violation, the peer's close frame came and bytes still wait, or it is a"
            " stream of events, which ends with our close"
        ),
        CLOSED: "the peer's close frame or end came, or the deadline passed",
    },
    ENDING: {CLOSED: "the peer's end came, or the deadline passed"},
    CLOSED: {},
}
"""Every move that there is, and what causes it."""


class Admission(Enum):
    """How far the gate let a connection in."""

    WAITING = "waiting"
    """It waits for capacity and holds no lease."""
    UNIDENTIFIED = "unidentified"
    """It holds a lease, and has to say who it is with its first message."""
    ADMITTED = "admitted"
