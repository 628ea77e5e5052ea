"""The backplane of a single node: everything is delivered at once, in the same turn.

It loses nothing, repeats nothing and keeps the order of publishing. Histories are in memory, so
they are gone with the process.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from time import monotonic, time
from typing import TYPE_CHECKING

from msgspec import Raw

from tidegate.core.codes import NO_HISTORY
from tidegate.core.messaging.history import History
from tidegate.core.messaging.rules import Rules
from tidegate.core.settings import RoomsSettings

if TYPE_CHECKING:
    from tidegate.backplane.base import Done, HistoryQuery, Receiver
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.history import Page
    from tidegate.core.messaging.publication import Direct, Publication
    from tidegate.core.settings import RoomRule

__all__ = ["MemoryBroker"]


class MemoryBroker:
    """The broker of a single node.

    Args:
        rules: which rooms keep a history; none by default.
        history: keeps it.
    """

    __slots__ = ("_history", "_receiver", "_rules")

    _receiver: Receiver

    def __init__(self, rules: Rules | None = None, history: History | None = None) -> None:
        self._rules = Rules() if rules is None else rules
        if history is None:
            history = History(RoomsSettings(), secrets.token_hex(4))
        self._history = history

    async def start(self, receiver: Receiver, /) -> None:
        """Deliver to this receiver."""
        self._receiver = receiver

    async def stop(self) -> None:
        """Do nothing: nothing is on its way."""

    def subscribe(self, room: str, done: Done, /) -> None:  # noqa: ARG002
        """Confirm it at once: the receiver knows the members of its rooms."""
        done(None)

    def unsubscribe(self, room: str, /) -> None:
        """Do nothing: a room without members gets nothing."""

    def publish(self, publication: Publication, done: Done, /) -> None:
        """Deliver a publication, and keep it where its room has a history. HOT."""
        if self._rules.some:
            rule = self._rules.of(publication.room)
            if rule.history_size or rule.timestamp:
                done(self._deliver_and_keep(publication, rule))
                return
        done(self._receiver.deliver(publication))

    def send(self, message: Direct, done: Callable[[int], None], /) -> None:
        """Deliver a message. HOT."""
        done(self._receiver.deliver_to_user(message))

    def to_all(self, message: Publication, done: Callable[[int], None], /) -> None:
        """Deliver a message."""
        done(self._receiver.deliver_to_all(message))

    def history(
        self, room: str, query: HistoryQuery, done: Callable[[Page | Fault], None], /
    ) -> None:
        """Read a room's history. It is told at once."""
        if not self._rules.of(room).history_size:
            done(NO_HISTORY)
            return
        if query.since is None:
            done(self._history.last(room, query.limit, monotonic()))
        else:
            done(self._history.since(room, query.since, query.limit, monotonic()))

    def _deliver_and_keep(self, publication: Publication, rule: RoomRule) -> Fault | None:
        if rule.timestamp:
            publication.timestamp = round(time(), 3)
        if rule.history_size:
            publication.epoch, publication.offset = self._history.next(publication.room)
        fault = self._receiver.deliver(publication)
        if fault is None and rule.history_size:
            data = publication.data
            if isinstance(data, Raw):  # it holds on to the whole message that it is a part of
                publication.data = data.copy()
            if publication.packed is not None:
                publication.packed = publication.packed.copy()
            self._history.add(publication, rule.history_size, rule.history_ttl, monotonic())
        return fault
