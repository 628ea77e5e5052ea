"""One client, or several that act alike: whether it is connected, and how it comes back."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from tidegate.core.admission.attempt import Identity, Lease
from tidegate.gate.decision import OpeningRequest

if TYPE_CHECKING:
    from tidegate.sim.behaviours import Behaviour

__all__ = ["Client", "Place", "State"]


class Place(Protocol):
    """The node that a client is at, as far as it concerns the client."""

    def disconnect(self, client: Client, /) -> None:
        """The client closes its connection."""

    def leave(self, client: Client, /) -> None:
        """The client waits no longer."""


class State(IntEnum):
    """Where a client is.

    AWAY -> TRYING -> CONNECTED -> AWAY; TRYING -> WAITING -> CONNECTED where there is a waiting
    room; any -> GONE, for one that does not come back.
    """

    AWAY = 0
    TRYING = 1
    WAITING = 2
    CONNECTED = 3
    GONE = 4


class Client:
    """A client. `turn` changes with each change of its state: what was meant for another is void.

    `lost_at` is when it lost its connection without wanting to; None once it is back. `left` is
    where it goes when it has what it wanted; None for one in whose stead another comes at once.
    """

    __slots__ = (
        "behaviour",
        "failures",
        "identity",
        "lease",
        "left",
        "lost_at",
        "node",
        "number",
        "request",
        "state",
        "tried_at",
        "turn",
    )

    def __init__(
        self, number: int, behaviour: Behaviour, address: str, tier: str | None, priority: int
    ) -> None:
        self.number = number
        self.behaviour = behaviour
        self.state = State.AWAY
        self.turn = 0
        self.failures = 0
        self.node: Place | None = None
        self.lease: Lease | None = None
        self.left: list[Client] | None = None
        self.lost_at: float | None = None
        self.tried_at = 0.0
        self.identity = Identity(f"u{number}", tier, priority)
        self.request = OpeningRequest(address, "/", in_band=behaviour.in_band)
