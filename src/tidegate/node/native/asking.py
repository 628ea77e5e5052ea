"""Messages of connections that wait until the application has answered a question."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tidegate.core.codes import OVERLOADED
from tidegate.node.native.answers import refuse

if TYPE_CHECKING:
    from tidegate.engine.connection import Connection

__all__ = ["Asking"]

_EACH: Final = 64
_ALL: Final = 4096

_Method: TypeAlias = "Callable[[Connection, Any], None]"


class Asking:
    """Keeps the order of what a connection does while a question about it is open.

    Of one connection it keeps 64 messages, of all together 4,096; more are refused.
    """

    def __init__(self) -> None:
        self._held: dict[Connection, deque[tuple[_Method, Any]]] = {}
        self._count = 0

    def holds(self, connection: Connection, method: _Method, message: Any) -> bool:
        """Keep a message for later, if a question about its connection is open. HOT."""
        held = self._held.get(connection)
        if held is None:
            return False
        if len(held) >= _EACH or self._count >= _ALL:
            refuse(connection, OVERLOADED, message.id)
        else:
            held.append((method, message))
            self._count += 1
        return True

    def begin(self, connection: Connection) -> Callable[[], bool]:
        """A question about a connection is open.

        Returns:
            What to call when it is answered. It says whether the connection is still there; then
            carry out what was asked, and call `go_on`.
        """
        mine: deque[tuple[_Method, Any]] = self._held.setdefault(connection, deque())
        return lambda: self._held.get(connection) is mine

    def go_on(self, connection: Connection) -> None:
        """What was asked is done: carry out the messages that came in between, in their order."""
        held = self._held.pop(connection, None)
        while held and not connection.closed:
            method, message = held.popleft()
            self._count -= 1
            method(connection, message)
            if connection in self._held:  # it asks as well, and the rest waits for that
                self._held[connection].extend(held)
                return
        self._count -= len(held or ())

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self._count -= len(self._held.pop(connection, ()))
