"""An attempt whose decision is not known yet: its client is watched, and its time is bounded.

It holds its socket and what its decision has taken, and nothing else. It ends in one of three
ways: the decision is known and takes the way of every other, the handshake's deadline passes, or
the client leaves and what was taken goes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tidegate.core.codes import DECISION_TIMEOUT, PENDING_LIMIT, Refusal
from tidegate.engine.poller import Entry

if TYPE_CHECKING:
    from tidegate.engine.door import Undecided
    from tidegate.engine.shared import Shared
    from tidegate.engine.sockets import Socket
    from tidegate.wire.handshake import HandshakeError, Request

__all__ = ["Parked", "Parking"]

_MOST_BYTES = 65536


class Parking(Protocol):
    """Where an attempt goes from here: its listener."""

    def ask(
        self,
        sock: Socket,
        peer: str,
        request: Request,
        arrived: float,
        undecided: Undecided | None = None,
    ) -> None:
        """Take an attempt that can be decided about."""

    def whole(self, sock: Socket, peer: str, data: bytes, request: Request, arrived: float) -> None:
        """Take an attempt whose request came late, with the bytes of it."""

    def malformed(self, sock: Socket, peer: str, data: bytes, error: HandshakeError) -> None:
        """Take what is no valid handshake."""

    def refuse(self, sock: Socket, response: bytes, peer: str) -> None:
        """Write the response that ends an attempt."""

    def crowd(self, sock: Socket, peer: str) -> None:
        """End an attempt whose address has too many that are unfinished."""

    def counted(self, peer: str) -> str | None:
        """What a peer is counted under; None for a proxy, whose clients are counted."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on."""


class Parked(Entry):
    """One attempt between its request and its decision. It is on the poller while it waits.

    Args:
        key: what `Unfinished.enter` returned for its client.
    """

    __slots__ = (
        "_arrived",
        "_parking",
        "_peer",
        "_request",
        "_shared",
        "_sock",
        "_undecided",
        "key",
    )

    def __init__(
        self,
        shared: Shared,
        parking: Parking,
        sock: Socket,
        peer: str,
        request: Request,
        arrived: float,
        undecided: Undecided,
        key: str,
    ) -> None:
        self._shared = shared
        self.key = key
        self._parking = parking
        self._sock = sock
        self._peer = peer
        self._request = request
        self._arrived = arrived
        self._undecided: Undecided | None = undecided

    def begin(self) -> None:
        """Watch the client, and wait for the decision, which may be there already."""
        shared, undecided = self._shared, self._undecided
        assert undecided is not None
        shared.pending += 1
        shared.poller.register(self._sock.fileno(), self)
        shared.openings.set(self, self._arrived + shared.handshake_timeout)
        undecided.then(self._ready)

    def on_events(self, events: int) -> bool:  # noqa: ARG002 - see the text
        """Read; what the event was shows there."""
        return True

    def on_readable(self) -> None:
        """Keep what the client says ahead of its 101, or see that it has left."""
        try:
            data = self._sock.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._request.rest += data
        if not data or len(self._request.rest) > _MOST_BYTES:
            self.drop()

    def on_crash(self) -> None:
        """Close without an answer."""
        self.drop()

    def timeout(self) -> None:
        """The decision took too long: say so."""
        self._refuse(DECISION_TIMEOUT)

    def give_way(self) -> None:
        """Make room for another attempt."""
        self._refuse(PENDING_LIMIT)

    def drop(self) -> None:
        """Close without an answer."""
        undecided = self._leave()
        if undecided is not None:
            self._sock.close()
            undecided.cancel()

    def _refuse(self, reason: Refusal) -> None:
        undecided = self._leave()
        if undecided is not None:
            self._parking.refuse(self._sock, undecided.refuse(reason), self._peer)

    def _ready(self) -> None:
        undecided = self._leave()
        if undecided is not None:
            self._parking.ask(self._sock, self._peer, self._request, self._arrived, undecided)

    def _leave(self) -> Undecided | None:
        """Wait no more; the decision that was waited for, None when that was over already."""
        undecided, self._undecided = self._undecided, None
        if undecided is not None:
            shared = self._shared
            shared.pending -= 1
            shared.openings.discard(self)
            shared.unfinished.leave(self.key)
            shared.poller.release(self._sock.fileno())
        return undecided
