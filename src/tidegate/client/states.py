"""The states of a client, as a table.

`backoff` is the time between two attempts. `closed` is where a client begins, and where it stays
when the server does not want it back.

    closed -- start --> connecting -- connected --> open
                         ^  |    |                  ^  |
                        due |    +- queued -> waiting  |
                         |  |                    |     |
                         |  +- lost --+-- lost --+     |
                        backoff <-----+-- lost --------+

From each but `closed`, `stopped` leads to `closed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["MOVES", "Move", "State"]


class State(StrEnum):
    """What a client is doing."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    WAITING = "waiting"
    OPEN = "open"
    BACKOFF = "backoff"


class Move(StrEnum):
    """What changes the state."""

    START = "start"
    QUEUED = "queued"
    CONNECTED = "connected"
    LOST = "lost"
    DUE = "due"
    STOPPED = "stopped"


MOVES: Final[Mapping[State, Mapping[Move, State]]] = MappingProxyType(
    {
        State.CLOSED: MappingProxyType({Move.START: State.CONNECTING}),
        State.CONNECTING: MappingProxyType(
            {
                Move.QUEUED: State.WAITING,
                Move.CONNECTED: State.OPEN,
                Move.LOST: State.BACKOFF,
                Move.STOPPED: State.CLOSED,
            }
        ),
        State.WAITING: MappingProxyType(
            {
                Move.CONNECTED: State.OPEN,
                Move.LOST: State.BACKOFF,
                Move.STOPPED: State.CLOSED,
            }
        ),
        State.OPEN: MappingProxyType({Move.LOST: State.BACKOFF, Move.STOPPED: State.CLOSED}),
        State.BACKOFF: MappingProxyType({Move.DUE: State.CONNECTING, Move.STOPPED: State.CLOSED}),
    }
)
"""All moves that there are. Any other changes nothing."""
