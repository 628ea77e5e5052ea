"""What a member missed, between what it has and what is published now: no gap, nothing twice.

A member that asks for history is *held*: it gets nothing that is published to the room until the
history is there. What is published in between is kept for it. Then it gets the history, what was
kept and is newer, and everything that is published from then on.

The history of a broker elsewhere may be ahead of what it has delivered here. The member stays held
then, up to that offset: it has got those messages already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from tidegate.backplane.base import HistoryQuery
from tidegate.core.codes import NOT_JOINED
from tidegate.core.messaging.history import OVERHEAD, Page, Position
from tidegate.engine.outbox import RoomFrames

if TYPE_CHECKING:
    from tidegate.backplane.base import Broker
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Publication
    from tidegate.engine.connection import Connection

__all__ = ["Recovered", "Recovery", "Wanted", "fitting"]

Recovered: TypeAlias = "Callable[[Page | Fault], None]"
"""Told a page of the history, or why there is none."""

_MOST_KEPT: Final = 1 << 20  # bytes of what is published while the history is on its way
_MOST_RECOVERED: Final = 10_000
_FRAMES_TOGETHER: Final = 64
_HEAD: Final = 256  # what a message has on the wire beside its data, at most about


class Wanted(NamedTuple):
    """What a member wants of the history: all after `since`; without it, or if some of these are
    gone, the `last` ones."""

    since: Position | None
    last: int


class _Hold:
    """One member of one room that gets its history first."""

    __slots__ = ("done", "kept", "lost", "size", "until")

    def __init__(self) -> None:
        self.done: Recovered | None = None
        """Told the history; None until that is asked for."""
        self.kept: list[Publication] = []
        self.size = 0
        self.lost = False
        """Whether more was published than is kept."""
        self.until: Position | None = None
        """What it got its history up to, once it has it."""

    def keep(self, publication: Publication) -> None:
        self.size += OVERHEAD + len(publication.data)
        if self.size > _MOST_KEPT:
            self.lost = True
            self.kept = [publication]  # its position is that from which on nothing is missing
        else:
            self.kept.append(publication)

    def complete(self, page: Page) -> Page:
        """Return the page with what was published since it was read."""
        kept = self.kept
        if not kept:
            return page
        last = Position(kept[-1].epoch, kept[-1].offset)
        epoch, offset = page.position
        if self.lost or last.epoch != epoch:
            return Page([], last, recovered=False)
        newer = [one for one in kept if one.offset > offset]
        if newer and newer[0].offset != offset + 1:
            return Page([], last, recovered=False)
        position = last if newer else page.position
        return Page([*page.publications, *newer], position, page.recovered)


class Recovery:
    """The members that are held.

    Args:
        broker: has the history.
        frames: encodes publications for a connection.
    """

    def __init__(
        self,
        broker: Broker,
        frames: Callable[[Connection, Iterable[Publication]], list[bytes]],
    ) -> None:
        self._broker = broker
        self._frames = frames
        self.rooms: dict[str, dict[Connection, _Hold]] = {}
        """The rooms that have members who are held."""

    def hold(self, connection: Connection, room: str) -> bool:
        """Hold a member; False when it is waiting for its history already."""
        holds = self.rooms.setdefault(room, {})
        before = holds.get(connection)
        if before is not None and before.until is None:
            return False
        holds[connection] = _Hold()
        return True

    def ask(self, connection: Connection, room: str, wanted: Wanted, done: Recovered) -> None:
        """Send a member that is held its history, behind what `done` sends, and let it go."""
        hold = self.rooms[room][connection]
        hold.done = done
        most = connection.shared.outbox.max_bytes // 2

        def told(answer: Page | Fault) -> None:
            if self.rooms.get(room, {}).get(connection) is hold:
                self._told(connection, room, hold, answer, at_once)

        def told_since(answer: Page | Fault) -> None:
            if isinstance(answer, Page) and not _is_complete(answer, most):
                if wanted.last:
                    self._broker.history(room, HistoryQuery(None, wanted.last), told_last)
                    return
                answer = Page([], answer.position, recovered=False)
            told(answer)

        def told_last(answer: Page | Fault) -> None:
            if isinstance(answer, Page):
                newest = fitting(answer.publications, most, newest=True)
                answer = Page(newest, answer.position, recovered=False)
            told(answer)

        at_once = True
        if wanted.since is None:
            self._broker.history(room, HistoryQuery(None, wanted.last), told_last)
        else:
            self._broker.history(room, HistoryQuery(wanted.since, _MOST_RECOVERED), told_since)
        at_once = False

    def held(self, publication: Publication) -> list[Connection]:
        """Return the members that must not get a publication now, and keep it for them."""
        holds = self.rooms.get(publication.room)
        if holds is None:
            return []
        position = Position(publication.epoch, publication.offset)
        held = []
        for connection, hold in tuple(holds.items()):
            if hold.until is None:
                hold.keep(publication)
                held.append(connection)
            elif hold.until.epoch == position.epoch and position.offset <= hold.until.offset:
                held.append(connection)
            else:
                self.gone(connection, publication.room)
        return held

    def left(self, connection: Connection, room: str) -> None:
        """A member has left the room: what it asked for is answered by that."""
        hold = self.gone(connection, room)
        if hold is not None and hold.done is not None and hold.until is None:
            hold.done(NOT_JOINED)

    def gone(self, connection: Connection, room: str) -> _Hold | None:
        """Forget a member."""
        holds = self.rooms.get(room)
        if holds is None:
            return None
        hold = holds.pop(connection, None)
        if not holds:
            del self.rooms[room]
        return hold

    def _told(
        self,
        connection: Connection,
        room: str,
        hold: _Hold,
        answer: Page | Fault,
        at_once: bool,
    ) -> None:
        assert hold.done is not None
        if isinstance(answer, Page):
            answer = hold.complete(answer)
            publications = answer.publications
            hold.until = answer.position
        else:
            publications = hold.kept
        here = hold.kept[-1].offset if hold.kept else 0
        if at_once or hold.until is None or here >= hold.until.offset:
            self.gone(connection, room)
        hold.kept = []
        hold.done(answer)
        frames = self._frames(connection, publications)
        for start in range(0, len(frames), _FRAMES_TOGETHER):
            # What it was told may have ended it, or made it leave.
            if not connection.open or room not in connection.rooms:
                return
            some = frames[start : start + _FRAMES_TOGETHER]
            connection.transmit(RoomFrames.of(some, room))


def fitting(publications: Sequence[Publication], most: int, newest: bool) -> list[Publication]:
    """Return as many of the newest or of the oldest messages as have `most` bytes together."""
    kept: list[Publication] = []
    for one in reversed(publications) if newest else publications:
        most -= _HEAD + len(one.data)
        if most < 0:
            break
        kept.append(one)
    return kept[::-1] if newest else kept


def _is_complete(page: Page, most: int) -> bool:
    """Whether a page has all that was asked for, and its member can be sent it.

    A member is not sent more than its outbox takes: it would be closed for that, come back and
    ask again.
    """
    reached = page.publications[-1].offset if page.publications else page.position.offset
    missing = page.position.offset - reached
    return (
        page.recovered
        and not missing
        and len(page.publications) == len(fitting(page.publications, most, newest=True))
    )
