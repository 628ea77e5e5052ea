"""What the gate is asked, and what it says: values that the engine, ASGI and a simulator render.

OpeningRequest -> Gate.decide -> Admit | Reject | Wait, or Pending until it is known
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from tidegate.core.admission.attempt import Attempt, Lease, Reject
from tidegate.gate.resumption import Resumed

__all__ = ["Admit", "Away", "Decision", "Held", "OpeningRequest", "Pending", "Reject", "Wait"]


@dataclass(slots=True)
class OpeningRequest:
    """One request to open a WebSocket that is valid as a request.

    ``address`` is the client's own, behind any trusted proxy, in its counted form. ``host`` and
    ``secure`` are what a same-origin page would have to come from. ``token``, ``ticket`` and
    ``session`` are what the request carries, unchecked. ``in_band`` says that the client offered a
    subprotocol in which it may say who it is in a first message, and can be held while it waits.
    ``headers`` are those of the request, with names in lower case; ``query`` is as sent, without
    its "?".
    """

    address: str
    path: str
    host: str = ""
    secure: bool = False
    origin: str | None = None
    token: str | None = None
    ticket: str | None = None
    in_band: bool = False
    headers: Mapping[str, str] | None = None
    query: str = ""
    session: str | None = None


class Admit(NamedTuple):
    """The attempt gets a lease. It must be released when the connection ends, whatever the cause.

    An ``unidentified`` one has to say who it is with its first message. ``resumed`` is the session
    that it has taken up, if it has.
    """

    attempt: Attempt
    lease: Lease
    unidentified: bool
    resumed: Resumed | None = None


class Held:
    """The position of a client that waits on its connection; the key of it in the waiting room.

    ``client`` is the connection, from the moment that it is open.
    """

    __slots__ = ("attempt", "client", "position", "unidentified")

    def __init__(self, attempt: Attempt, unidentified: bool) -> None:
        self.attempt = attempt
        self.unidentified = unidentified
        self.position = 0
        self.client: Any = None


class Away(NamedTuple):
    """What a client is told that has to come back: its ticket, its position, and the delay in s."""

    ticket: str
    position: int
    retry_after: int


class Wait(NamedTuple):
    """The attempt has a position in the waiting room: on its connection, or with a ticket."""

    attempt: Attempt
    position: Held | Away


Decision: TypeAlias = Admit | Reject | Wait


class Pending(Protocol):
    """A decision that is not known yet. It ends with one `decide` or one `cancel`.

    The caller bounds how long it waits, and how many of these there are.
    """

    def then(self, ready: Callable[[], None], /) -> None:
        """Call ``ready`` once, in the same thread, as soon as `decide` has something to say."""

    def decide(self, now: float, wall: float, /) -> Decision | Pending:
        """Return the decision; ``now`` is in monotonic, ``wall`` in Unix seconds.

        Raises what the application raised.
        """

    def cancel(self) -> None:
        """The client has left, or nobody waits any longer: whatever was taken goes back."""
