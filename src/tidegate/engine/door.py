"""The seam below the gate: what the engine asks about an attempt, and what it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from tidegate.engine.states import Admission

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease
    from tidegate.core.codes import Refusal
    from tidegate.wire.deflate import Deflate
    from tidegate.wire.handshake import HandshakeError, Request

__all__ = ["Door", "Grant", "Undecided"]


class Grant(NamedTuple):
    """What an attempt gets that becomes a connection: the answer, and what was agreed.

    It is carried whole from the door to the connection. The lease of one that waits is not held.
    """

    response: bytes
    lease: Lease
    path: str
    subprotocol: str | None = None
    deflate: Deflate | None = None
    admission: Admission = Admission.ADMITTED
    expires_in: float | None = None
    """Seconds until the token expires, None when it does not."""
    held: Any = None
    """The position of a connection that waits; it means nothing to the engine."""
    resumed: Any = None
    """The session that it takes up: its `number` is that of a connection that has ended."""
    context: Any = None
    """What the application keeps of the negotiation: the first `Connection.context`."""
    stream_key: str | None = None
    """Where messages go out as server-sent events: the key with which its client posts its own."""


class Undecided(Protocol):
    """An attempt whose decision comes later. It ends with one `decide`, `refuse` or `cancel`."""

    @property
    def address(self) -> str:
        """The client's own address, behind any proxy."""

    def then(self, ready: Callable[[], None], /) -> None:
        """Call `ready` once, in the loop's thread, when `decide` has something to say."""

    def decide(self, now: float, /) -> Grant | bytes | Undecided:
        """Return what `Door.decide` returns. Called once, after `ready` was."""

    def refuse(self, reason: Refusal, /) -> bytes:
        """Give up, and return the response that says why. What was taken goes back."""

    def cancel(self) -> None:
        """The client has left. What was taken goes back."""


class Door(Protocol):
    """Who decides about attempts. It returns what to write; the engine does the writing."""

    def decide(self, request: Request, peer: str, now: float, /) -> Grant | bytes | Undecided:
        """Return a grant, or the whole response with which to refuse (or answer plain HTTP)."""

    def max_body(self, path: str, /) -> int:
        """Return how many bytes may be posted at a path in one request; 0 for none."""

    def posted(self, request: Request, body: bytes | None, peer: str, /) -> bytes:
        """Take what was posted, and return the response. A body that was too large is None.

        The connection stays open if it was taken.
        """

    def malformed(
        self, error: HandshakeError, peer: str, request: Request | None = None, /
    ) -> bytes:
        """Return the response to a request that is not valid."""

    def timed_out(self, peer: str, /) -> bytes:
        """Return the response to a request that did not come in time."""

    def overdue(self, request: Request, peer: str, /) -> bytes:
        """Return the response to an attempt that could not be decided about in time."""

    def no_descriptor(self, request: Request | None, peer: str, /) -> bytes:
        """Return the response when there is no file descriptor for a connection.

        `request` is None where none could be read. Plain HTTP is answered as ever.
        """

    def crowded(self, peer: str, /) -> bytes:
        """Return the response to an address that has too many of what is no WebSocket yet.

        These are attempts that are not finished, and HTTP connections.
        """

    def failed(self, error: Exception, /) -> bytes:
        """Return the response when a decision raised; no lease may be held then."""

    def wait_to_decide(self, now: float, /) -> float:
        """Return the seconds for which no attempt is to be decided about; 0.0 for none. HOT."""

    def trusts(self, peer: str, /) -> bool:
        """Return whether `peer` is a proxy that may speak for others."""
