"""The seam between the engine and whoever decides about attempts: what is asked, and the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from tidegate.core.admission.attempt import Lease
    from tidegate.wire.deflate import Deflate
    from tidegate.wire.handshake import HandshakeError, Request

__all__ = ["Door", "Grant"]


class Grant(NamedTuple):
    """What the gate gives to an attempt that becomes a connection: the answer, and what was agreed.

    The lease of one that still has to wait is not held.
    """

    response: bytes
    lease: Lease
    path: str
    subprotocol: str | None = None
    deflate: Deflate | None = None
    pending_auth: bool = False
    expires_in: float | None = None
    """Seconds until the token expires, None when it does not."""
    place: Any = None
    """The place of a connection that waits to be let in; it means nothing to the engine."""


class Door(Protocol):
    """Who decides about attempts. It returns what to write; the engine does the writing."""

    def decide(self, request: Request, peer: str, now: float) -> Grant | bytes:
        """Return a grant, or the whole response with which to refuse (or answer plain HTTP)."""

    def malformed(self, error: HandshakeError) -> bytes:
        """Return the response to a request that is not valid HTTP."""

    def timed_out(self) -> bytes:
        """Return the response to a request that did not come in time."""

    def no_descriptor(self) -> bytes:
        """Return the response when the process is out of file descriptors."""

    def failed(self, error: Exception) -> bytes:
        """Return the response when :meth:`decide` raised; no lease may be held then."""

    def wait_to_decide(self, now: float) -> float:
        """Return the seconds for which no attempt is to be decided about; 0.0 for none. HOT."""

    def trusts(self, peer: str) -> bool:
        """Return whether ``peer`` is a proxy that may speak for others."""
