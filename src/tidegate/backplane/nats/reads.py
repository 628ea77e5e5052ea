"""Reads histories from the stream.

First the leader of the stream says where the room is, then any server sends the batches; a replica
that is behind is asked again. Those who ask for a room while it is read are answered together by
the next read: a thousand clients that come back at once cost as much as a few.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from tidegate.backplane.nats.batches import Batch, Head
from tidegate.backplane.nats.histories import Histories
from tidegate.backplane.nats.link import Link
from tidegate.backplane.nats.stream import HistoryStream
from tidegate.backplane.nats.wire import Message
from tidegate.core.codes import BACKPLANE_DOWN
from tidegate.core.messaging.history import Page, Position

if TYPE_CHECKING:
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.messaging.rules import Rules

__all__ = ["Reads"]

_log = logging.getLogger("tidegate")

_BATCHES: Final = 1000  # that are read together
_MOST_TRIES: Final = 20
_AGAIN_SECONDS: Final = 0.05


class _Query(NamedTuple):
    since: Position | None
    limit: int
    done: Callable[[Page | Fault], None]


class Reads:
    """Reads the histories of rooms.

    Args:
        link: the connection.
        stream: where they are.
        histories: know where each room is.
        rules: how many messages each room keeps.
    """

    def __init__(
        self, link: Link, stream: HistoryStream, histories: Histories, rules: Rules
    ) -> None:
        self._link = link
        self._histories = histories
        self._rules = rules
        self._question = f"$JS.API.DIRECT.GET.{stream.name}"
        self._next: dict[str, list[_Query]] = {}
        """For each room that is being read, what the next read will answer."""

    def read(
        self,
        room: str,
        since: Position | None,
        limit: int,
        done: Callable[[Page | Fault], None],
    ) -> None:
        """Read what came after a position, or the last messages without one."""
        query = _Query(since, limit, done)
        waiting = self._next.get(room)
        if waiting is not None:
            waiting.append(query)
            return
        self._next[room] = []
        self._begin(room, [query])

    def _begin(self, room: str, queries: list[_Query], *, again: bool = False) -> None:
        def found(head: Head | Fault) -> None:
            if isinstance(head, Head):
                self._found(room, queries, head, again=again)
            else:
                self._end(room, queries, head, [])

        self._histories.head(room, found)

    def _found(self, room: str, queries: list[_Query], head: Head, *, again: bool) -> None:
        """The room's position is known: read as much as is asked for."""
        position, sequence = head.position, head.sequence
        offsets = [_after(query, position) for query in queries]
        first = min((offset for offset in offsets if offset is not None), default=None)
        if first is None:
            self._end(room, queries, position, [])
            return

        def fetched(publications: list[Publication] | None) -> None:
            if publications is not None:
                self._end(room, queries, position, publications)
            elif again:
                self._end(room, queries, BACKPLANE_DOWN, [])
            else:  # its last batch may be gone since
                self._begin(room, queries, again=True)

        self._fetch(_Reading(room, self._histories.start(room, first), sequence), fetched)

    def _end(
        self,
        room: str,
        queries: list[_Query],
        position: Position | Fault,
        publications: list[Publication],
    ) -> None:
        """Answer, and begin with those who came in between."""
        waiting = self._next.pop(room)
        if waiting:
            self._next[room] = []
            self._begin(room, waiting)
        if not isinstance(position, Position):
            for query in queries:
                query.done(position)
            return
        oldest = position.offset - self._rules.of(room).history_size
        kept = [
            one
            for one in publications
            if one.epoch == position.epoch and oldest < one.offset <= position.offset
        ]
        for query in queries:
            query.done(_page(query, position, kept))

    # From the server.

    def _fetch(
        self, reading: _Reading, done: Callable[[list[Publication] | None], None], tries: int = 0
    ) -> None:
        """Read batches until the room's last one is there; `done` is told None if it never is."""

        def answered(answer: Message | Exception) -> bool:
            if isinstance(answer, Exception):
                done(None)
                return False
            if answer.status == 0:
                reading.take(answer)
                return True
            if reading.complete:
                done(reading.publications)
            elif tries >= _MOST_TRIES:
                done(None)
            elif reading.progressed():
                self._fetch(reading, done, tries)
            else:  # the replica is behind, or nobody leads
                loop = asyncio.get_running_loop()
                loop.call_later(_AGAIN_SECONDS, self._fetch, reading, done, tries + 1)
            return False

        subject = self._histories.subject(reading.room)
        question = {"batch": _BATCHES, "seq": reading.next, "next_by_subj": subject}
        self._link.ask(self._question, msgspec.json.encode(question), answered)


class _Reading:
    """What has been read of a room so far."""

    def __init__(self, room: str, start: int, until: int) -> None:
        self.room = room
        self.next = start
        self.until = until
        self.publications: list[Publication] = []
        self._before = start

    @property
    def complete(self) -> bool:
        """Whether the batch that was the last one is read."""
        return self.next > self.until

    def progressed(self) -> bool:
        """Whether there is more than there was when this was asked before."""
        before, self._before = self._before, self.next
        return self.next > before

    def take(self, message: Message) -> None:
        """Take what the server sends."""
        sequence = message.header(b"Nats-Sequence")
        if not sequence.isdigit():
            return
        self.next = int(sequence) + 1
        try:
            self.publications += Batch.of(message.data).publications(self.room)
        except msgspec.DecodeError as error:
            _log.warning("the backplane keeps what no node sends: %s", error)


def _after(query: _Query, position: Position) -> int | None:
    """Return the offset after which a query wants messages; None where it gets none."""
    since = query.since
    if not query.limit:
        return None
    if since is None:
        return max(0, position.offset - query.limit) if position.offset else None
    wants = since.epoch == position.epoch and since.offset < position.offset
    return since.offset if wants else None


def _page(query: _Query, position: Position, kept: list[Publication]) -> Page:
    since, limit, _ = query
    if since is None:
        return Page(kept[-limit:] if limit else [], position, recovered=False)
    if since.epoch != position.epoch or since.offset > position.offset:
        return Page([], position, recovered=False)
    after = [one for one in kept if one.offset > since.offset]
    first = after[0].offset if after else position.offset + 1
    if limit and first != since.offset + 1:
        return Page([], position, recovered=False)
    return Page(after[:limit], position, recovered=True)
