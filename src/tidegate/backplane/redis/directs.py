"""Messages to a user or to all, over Valkey or Redis: to every node, in one order, once.

They are published and kept for a short while, with the script of rooms that have a history. A node
that was cut off reads what it has missed. Where more was missed than is kept, or the server has
lost it, the node is told so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.redis.scripts import SCRIPTS
from tidegate.core.messaging.history import Position

if TYPE_CHECKING:
    from tidegate.backplane.redis.link import Answer
    from tidegate.backplane.redis.links import Links

__all__ = ["Directs"]

_PUBLISH: Final = SCRIPTS["publish"]
_READ: Final = SCRIPTS["read"]
_KEPT: Final = 2000
_KEPT_MS: Final = 60_000
_REMEMBERED_MS: Final = 30 * 86_400_000
_MOST_WAITING: Final = 10_000


class Directs:
    """Publishes them, and delivers what all nodes publish.

    Args:
        links: the connections to the server.
        deliver: is given each message, as it was published.
        missed: called when some cannot be delivered.
    """

    def __init__(
        self, links: Links, deliver: Callable[[bytes], None], missed: Callable[[], None]
    ) -> None:
        self._links = links
        self._deliver = deliver
        self._missed = missed
        self._channel = links.name("{directs}", "all")
        self._keys = self._channel + b":known", self._channel + b":stream"
        self._last: Position | None = None
        self._reading = False
        self._waiting: list[tuple[Position, bytes]] = []
        links.hear(self._channel, self._published)
        links.watch(heard=self._read)

    def publish(self, packed: bytes, answer: Answer) -> None:
        """Publish a message; the answer has its epoch, its offset, and how many nodes get it."""
        self._links.run(
            _PUBLISH,
            self._keys,
            self._channel,
            packed,
            _KEPT,
            _KEPT_MS,
            self._links.commands.run,
            secrets.token_hex(4),
            _REMEMBERED_MS,
            answer=answer,
        )

    def _published(self, data: bytes) -> None:
        head, _, packed = data.partition(b"\n")
        epoch, _, offset = head.partition(b" ")
        here = Position(epoch.decode(), int(offset))
        if self._reading:
            self._keep(here, packed)
        else:
            self._take(here, packed)

    def _keep(self, here: Position, packed: bytes) -> None:
        if len(self._waiting) < _MOST_WAITING:  # the rest is a hole, and is read then
            self._waiting.append((here, packed))

    def _take(self, here: Position, packed: bytes) -> None:
        last = self._last
        if last is not None:
            if here.epoch == last.epoch and here.offset <= last.offset:
                return  # it was read already
            if here.epoch != last.epoch or here.offset != last.offset + 1:
                self._keep(here, packed)
                self._read()
                return
        self._last = here
        self._deliver(packed)

    def _read(self) -> None:
        """Read what this node has missed; at the start, only where the others are."""
        if self._reading:
            return
        self._reading = True
        last = self._last
        self._links.run(
            _READ,
            self._keys,
            self._links.commands.run,
            secrets.token_hex(4),
            _REMEMBERED_MS,
            -1 if last is None else last.offset,
            0 if last is None else _KEPT,
            answer=self._have_read,
        )

    def _have_read(self, answer: Any) -> None:
        self._reading = False
        if isinstance(answer, Exception):
            return  # it is read when there is a connection again, or with the next message
        waiting, self._waiting = self._waiting, []
        epoch, top, _, entries = answer
        position = Position(epoch.decode(), top)
        last = self._last
        if last is not None:
            self._catch_up(last, position, entries)
        elif not waiting:
            self._last = position
        for here, packed in waiting:
            if self._reading:
                self._keep(here, packed)
            else:
                self._take(here, packed)

    def _catch_up(self, last: Position, position: Position, entries: list[Any]) -> None:
        reached = last
        if position.epoch == last.epoch and position.offset >= last.offset:
            for id_, (_, _, _, packed) in entries:
                offset = int(id_.partition(b"-")[0])
                if offset != reached.offset + 1:
                    break
                reached = Position(last.epoch, offset)
                self._deliver(packed)
        self._last = position
        if reached != position:
            self._missed()
