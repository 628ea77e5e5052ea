"""Attempts that cannot be answered yet: their request is not whole, or their decision not known.

How many of them there are is bounded, in all and for each address (`engine.descriptors`).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tidegate.core.codes import IP_LIMIT, PENDING_LIMIT
from tidegate.engine.opening import Opening
from tidegate.engine.parked import Parked

if TYPE_CHECKING:
    from tidegate.engine.door import Undecided
    from tidegate.engine.parked import Parking
    from tidegate.engine.shared import Shared
    from tidegate.engine.sockets import Socket
    from tidegate.wire.handshake import Request

__all__ = ["Waiting"]

_LOOKS = 256  # when one has to make room


class Waiting:
    """Lets the attempts of one listener wait, if there are not too many that do."""

    def __init__(self, shared: Shared, listener: Parking, proxy_protocol: bool) -> None:
        self._shared = shared
        self._listener = listener
        self._proxy_protocol = proxy_protocol

    def wait(self, sock: Socket, peer: str, arrived: float, data: bytes = b"") -> None:
        """Wait for what is missing of a request; `data` is what is there already."""
        shared = self._shared
        key = self._enter(self._listener.counted(peer))
        if key is None:
            self._listener.crowd(sock, peer)
            return
        fd = sock.fileno()  # known before TLS takes the socket over
        opening = Opening(shared, self._listener, sock, peer, arrived, self._proxy_protocol, key)
        shared.poller.register(fd, opening)
        shared.openings.set(opening, arrived + shared.handshake_timeout)
        if data:
            opening.receive(data)

    def park(
        self, sock: Socket, peer: str, request: Request, arrived: float, undecided: Undecided
    ) -> bytes | None:
        """Wait for a decision; the response when there are too many that do."""
        shared = self._shared
        if shared.pending >= shared.max_pending:
            return undecided.refuse(PENDING_LIMIT)
        key = self._enter(undecided.address)
        if key is None:
            return undecided.refuse(IP_LIMIT)
        Parked(shared, self._listener, sock, peer, request, arrived, undecided, key).begin()
        return None

    def _enter(self, address: str | None) -> str | None:
        """Count one more, as `Unfinished.enter` does; another one makes room if it has to."""
        openings, unfinished = self._shared.openings, self._shared.unfinished
        full = len(openings) >= unfinished.most
        key = unfinished.enter(address, full=full)
        if full and key is not None:
            first = openings.first()
            looked_at = islice(openings, _LOOKS)  # the oldest comes first, or nearly so
            several = (attempt for attempt in looked_at if unfinished.several(attempt.key))
            if first is not None:
                next(several, first).give_way()
        return key
