"""Messages whose peer has closed the connection while they waited for a handler.

The connection has ended by then, and its lease is given back. What the peer sent before its close
frame is handled all the same, one message after the other, and then the application is told of the
end. This looks into connections, as their receiving half does.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from tidegate.engine.later import SERVED_SECONDS
from tidegate.wire.frames import BINARY, ProtocolError
from tidegate.wire.reader import HEAVY

if TYPE_CHECKING:
    from tidegate.wire.reader import Reader

__all__ = ["Leftover"]

# Each has read up to 64 KiB ahead, and holds no lease any more that would bound their number.
_MOST = 1024


class Leftover:
    """The connections that have such messages, and the readers that have these."""

    __slots__ = ("_readers",)

    def __init__(self) -> None:
        self._readers: dict[Any, Reader] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, connection: object) -> bool:
        return connection in self._readers

    def reader(self, connection: Any) -> Reader | None:
        """The messages of a connection, if it has such."""
        return self._readers.get(connection)

    def keep(self, connection: Any, reader: Reader) -> None:
        """Keep what was read for a connection; the oldest one's are dropped when it is too many."""
        if len(self._readers) >= _MOST:
            self.drop(next(iter(self._readers)))
            connection.shared.host.warn(
                "messages are dropped: too many clients closed while a handler was at work"
            )
        self._readers[connection] = reader

    def drop(self, connection: Any) -> None:
        """Handle no more messages of a connection; tell the application if it has ended."""
        if self._readers.pop(connection, None) is None:
            return
        connection._count_held()
        if connection.closed:
            poller = connection.shared.poller
            poller.ready.append(connection._announce_close)
            poller.wake()

    def clear(self) -> None:
        """Handle no more messages of any."""
        for connection in list(self._readers):
            self.drop(connection)

    def handle(self, connection: Any) -> None:
        """Handle the next messages, until a handler or a rate asks to wait, or the turn is over."""
        reader = self._readers[connection]
        until = monotonic() + SERVED_SECONDS
        while True:
            try:
                item = reader.next()
            except ProtocolError:
                item = None
            if item is None:
                self.drop(connection)
                return
            if item is HEAVY:
                connection._later()
                return
            opcode, payload = item
            if opcode <= BINARY:
                connection._handle(opcode, payload)
            if connection._held or connection not in self._readers:
                return
            if monotonic() >= until:
                connection._later()
                return
