"""Publishes to rooms that keep a history, and reads it.

JetStream has one order for all that is published to a room, but does not count in a room. So the
node that publishes gives the offset: it knows the room's last batch, and asks the server to take
the next one only if that is still the last one (Nats-Expected-Last-Subject-Sequence). When another
node was faster, it looks and tries again. A room's messages of a node that come until then go
together in the next batch, so the rate of a room does not depend on how long the server takes.

What the stream publishes again may be lost between two servers. The next message shows that; where
none follows, the node that published last says on the room's subject which was the last one.

An epoch begins where there is no last batch: the stream was lost. It also begins where the stream
has gone back, so that offsets would be given again. The last batch would be gone as well some time
after the last message; so a batch without messages, which lasts, is written before.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from math import ceil
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from tidegate.backplane.envelopes import pack_publication
from tidegate.backplane.nats.answers import NO_MESSAGE, WRONG_LAST, Stored
from tidegate.backplane.nats.batches import Batch, Head, pack_batch
from tidegate.backplane.nats.link import Link
from tidegate.backplane.nats.stream import HistoryStream
from tidegate.backplane.nats.subjects import token
from tidegate.backplane.nats.wire import Message
from tidegate.core.codes import BACKPLANE_DOWN, OVERLOADED, TOO_BIG

if TYPE_CHECKING:
    from tidegate.backplane.base import Done
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.messaging.rules import Rules

__all__ = ["Histories"]

_log = logging.getLogger("tidegate")

_TOGETHER: Final = 32  # messages in a batch
_MOST_WAITING: Final = 10_000  # messages of a room
_MOST_HEADS: Final = 100_000  # rooms whose last batch is remembered
_MOST_TRIES: Final = 1000
_QUIET_SECONDS: Final = 30 * 86_400  # for how long the offset of an idle room is remembered
_SOON_SECONDS: Final = 1.0
_MARGIN: Final = 4096  # bytes of a message's headers and of a batch around an envelope

Found: TypeAlias = "Callable[[Head | Fault], None]"


class _Waiting(NamedTuple):
    publication: Publication
    envelope: bytes
    done: Done


class _Lane:
    """What waits to be published to one room: one batch is under way at a time."""

    __slots__ = ("tries", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.tries = 0


class Histories:
    """The rooms of a node that keep a history.

    Args:
        link: the connection.
        stream: where they are kept.
        rules: what each room keeps.
    """

    def __init__(self, link: Link, stream: HistoryStream, rules: Rules) -> None:
        self._link = link
        self._stream = stream
        self._rules = rules
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._lanes: dict[str, _Lane] = {}
        self._quiet: dict[float, OrderedDict[str, tuple[float, int]]] = {}
        """For each delay, when a room is to be looked after, unless more was published by then."""

    def subject(self, room: str) -> str:
        """Return the subject that a room is published on."""
        return self._stream.kept + token(room)

    # Publishing.

    def publish(self, publication: Publication, size: int, done: Done) -> None:
        """Give a publication an offset and keep it. HOT."""
        room = publication.room
        if not self._stream.holds(size):
            self._stream.prepare_soon()
        envelope = pack_publication(publication)
        if len(envelope) > self._link.largest - _MARGIN:
            done(TOO_BIG)
            return
        lane = self._lanes.get(room)
        if lane is None:
            lane = self._lanes[room] = _Lane()
            asyncio.get_running_loop().call_soon(self._next, room, lane)
        elif len(lane.waiting) >= _MOST_WAITING:
            done(OVERLOADED)
            return
        lane.waiting.append(_Waiting(publication, envelope, done))

    def learn(self, room: str, epoch: str, offset: int, sequence: int) -> None:
        """A batch is in the stream. HOT."""
        head = self._heads.get(room)
        if head is not None and head.epoch == epoch:
            if sequence > head.sequence and offset >= head.offset:
                head.advance(offset, sequence)
        else:
            self._remember(room, Head(epoch, offset, sequence))

    def _remember(self, room: str, head: Head) -> None:
        self._heads[room] = head
        self._heads.move_to_end(room)
        if len(self._heads) > _MOST_HEADS:
            self._heads.popitem(last=False)

    def _next(self, room: str, lane: _Lane) -> None:
        """Publish the next batch of a room."""
        if not lane.waiting:
            del self._lanes[room]
            return
        head = self._heads.get(room)
        if head is None:
            self._ask(room, None, lambda found: self._found(room, lane, found))
            return
        batch: list[_Waiting] = []
        size = 0
        most = self._link.largest - _MARGIN
        for one in lane.waiting:
            size += len(one.envelope) + 8
            if batch and (size > most or len(batch) >= _TOGETHER):
                break
            batch.append(one)
        for _ in batch:
            lane.waiting.popleft()
        ttl = self._rules.of(room).history_ttl
        data = pack_batch(head.epoch, head.offset + 1, [one.envelope for one in batch])
        epoch, offset, sequence = head.epoch, head.offset, head.sequence

        def answered(answer: Message | Exception) -> None:
            said = self._stream.said(answer)
            if said is None:
                self._heads.pop(room, None)  # it is not known whether the server has it
                fault: Fault | None = BACKPLANE_DOWN
            elif said.error is None:
                lane.tries = 0
                self.learn(room, epoch, offset + len(batch), said.seq)
                self._look_after(room, _SOON_SECONDS, said.seq)
                self._look_after(room, ttl / 2, said.seq)
                for number, one in enumerate(batch, offset + 1):
                    one.publication.epoch, one.publication.offset = epoch, number
                fault = None
            elif said.error.err_code in WRONG_LAST and lane.tries < _MOST_TRIES:
                lane.waiting.extendleft(reversed(batch))
                self._again(room, lane, sequence)
                return
            else:
                _log.warning("the backplane refused a message: %s", said.error.description)
                fault = BACKPLANE_DOWN
            for one in batch:
                one.done(fault)
            self._next(room, lane)

        self._write(room, data, sequence, ttl, answered)

    def _again(self, room: str, lane: _Lane, sequence: int) -> None:
        """Another node was faster: look where the room is, and try again."""
        lane.tries += 1
        head = self._heads.get(room)
        if head is not None and head.sequence != sequence:
            self._next(room, lane)  # it has come here already
            return
        self._heads.pop(room, None)
        delay = 0.0 if lane.tries < 3 else 0.01 * random()  # noqa: S311 - it spreads nodes

        def ask() -> None:
            self._ask(room, head, lambda found: self._found(room, lane, found))

        asyncio.get_running_loop().call_later(delay, ask)

    def _found(self, room: str, lane: _Lane, found: Head | Fault) -> None:
        if isinstance(found, Head):
            self._next(room, lane)
            return
        waiting, lane.waiting = lane.waiting, deque()
        del self._lanes[room]
        for one in waiting:
            one.done(found)

    def _write(
        self,
        room: str,
        data: bytes,
        sequence: int,
        ttl: float,
        answer: Callable[[Message | Exception], None],
    ) -> None:
        head = b"Nats-Expected-Last-Subject-Sequence: %d\r\nNats-TTL: %ds\r\n"
        self._link.ask(self.subject(room), data, answer, head % (sequence, ceil(ttl)))

    # Where a room is.

    def head(self, room: str, done: Found) -> None:
        """Ask the server where a room is; one that has no epoch gets one."""
        known = self._heads.get(room)
        self._ask(room, None if known is None else known.copy(), done)

    def start(self, room: str, offset: int) -> int:
        """Return where in the stream to begin, to find all of a room that came after an offset."""
        head = self._heads.get(room)
        return 1 if head is None else head.start(offset)

    def _ask(self, room: str, known: Head | None, done: Found, tries: int = 0) -> None:
        """Ask where a room is. `known` is what was known before: the stream may have gone back."""

        def answered(answer: Message | Exception) -> None:
            said = self._stream.said(answer)
            if said is None:
                done(BACKPLANE_DOWN)
                return
            sequence = 0
            if said.message is not None:
                head = _head(said.message)
                if head is not None and not _gone_back(known, head):
                    self.learn(room, head.epoch, head.offset, head.sequence)
                    done(head)
                    return
                sequence = said.message.seq
            elif said.error is None or said.error.err_code != NO_MESSAGE:
                description = "" if said.error is None else said.error.description
                _log.warning("the backplane refused to say where a room is: %s", description)
                done(BACKPLANE_DOWN)
                return
            self._begin(room, sequence, done, tries)

        question = msgspec.json.encode({"last_by_subj": self.subject(room)})
        self._link.ask(f"$JS.API.STREAM.MSG.GET.{self._stream.name}", question, answered)

    def _begin(self, room: str, sequence: int, done: Found, tries: int) -> None:
        """Begin an epoch after a message of the stream."""
        epoch = secrets.token_hex(4)

        def answered(answer: Message | Exception) -> None:
            said = self._stream.said(answer)
            if said is not None and said.error is None:
                head = Head(epoch, 0, said.seq)
                self._remember(room, head)
                done(head)
            elif said is None or tries > _MOST_TRIES:
                done(BACKPLANE_DOWN)
            else:  # another node was faster
                self._ask(room, None, done, tries + 1)

        self._write(room, pack_batch(epoch, 1, ()), sequence, _QUIET_SECONDS, answered)

    # Rooms that are quiet.

    def _look_after(self, room: str, delay: float, sequence: int) -> None:
        """Remember that a room's last batch is this node's. HOT."""
        quiet = self._quiet.setdefault(delay, OrderedDict())
        quiet[room] = monotonic() + delay, sequence
        quiet.move_to_end(room)
        if len(quiet) > _MOST_HEADS:
            quiet.popitem(last=False)

    def tick(self) -> None:
        """Look after the rooms in which nothing more was published."""
        now = monotonic()
        for delay, quiet in tuple(self._quiet.items()):
            while quiet:
                room, (due, sequence) = next(iter(quiet.items()))
                if due > now:
                    break
                del quiet[room]
                head = self._heads.get(room)
                if head is None or head.sequence != sequence or room in self._lanes:
                    continue
                if delay == _SOON_SECONDS:
                    self._say_again(room, head)
                else:
                    self._last(room, head)
            if not quiet:
                del self._quiet[delay]

    def _say_again(self, room: str, head: Head) -> None:
        """Say where a room is, to those who have not got its last batch."""
        data = pack_batch(head.epoch, head.offset + 1, ())
        number = b"Nats-Sequence: %d\r\n" % head.sequence
        self._link.publish(self._stream.rooms + token(room), data, head=number)

    def _last(self, room: str, head: Head) -> None:
        """Write a batch that lasts: the room's last one will be gone some time."""

        def answered(answer: Message | Exception) -> None:
            said = self._stream.said(answer)
            if said is not None and said.error is None:
                self.learn(room, head.epoch, offset, said.seq)

        offset = head.offset
        data = pack_batch(head.epoch, offset + 1, ())
        self._write(room, data, head.sequence, _QUIET_SECONDS, answered)


def _gone_back(known: Head | None, head: Head) -> bool:
    """Whether the stream has lost the end of an epoch, after a power failure say."""
    return known is not None and known.epoch == head.epoch and head.sequence < known.sequence


def _head(stored: Stored) -> Head | None:
    try:
        batch = Batch.of(stored.data)
    except msgspec.DecodeError:
        return None
    return Head(batch.epoch, batch.last, stored.seq)
