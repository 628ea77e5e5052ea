"""The histories of rooms, each in a stream of the server.

A publication of such a room has its position before it, as the script puts it there:

    epoch SPACE offset NEWLINE envelope

Without a history the first line is empty.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.envelopes import open_publication, pack_publication
from tidegate.backplane.redis.link import LinkDownError
from tidegate.backplane.redis.scripts import SCRIPTS
from tidegate.core.codes import BACKPLANE_DOWN
from tidegate.core.messaging.history import Page, Position

if TYPE_CHECKING:
    from tidegate.backplane.redis.link import Answer
    from tidegate.backplane.redis.links import Links
    from tidegate.backplane.redis.scripts import Script
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.settings import RoomRule

__all__ = ["Streams", "fault_of", "page_of"]

_log = logging.getLogger("tidegate")

_PUBLISH: Final = SCRIPTS["publish"]
_READ: Final = SCRIPTS["read"]
_META_MS: Final = 30 * 86_400_000  # for how long an idle room's offset is remembered


class Streams:
    """Publishes to rooms that keep a history, and reads it.

    Args:
        links: the connections to the server.
    """

    def __init__(self, links: Links) -> None:
        self._links = links

    def publish(self, publication: Publication, rule: RoomRule, answer: Answer) -> None:
        """Give a publication its offset, keep it and publish it."""
        room = publication.room
        self._run(
            _PUBLISH,
            room,
            self._links.room(room),
            pack_publication(publication),
            rule.history_size,
            max(1, round(rule.history_ttl * 1000)),
            self._links.of(self._links.room(room)).run,
            _new_epoch(),
            _META_MS,
            answer=answer,
        )

    def read(self, room: str, after: int, limit: int, answer: Answer) -> None:
        """Read a stream: what comes after an offset, or the last messages where that is -1."""
        run = self._links.of(self._links.room(room)).run
        arguments = (run, _new_epoch(), _META_MS, after, limit)
        self._run(_READ, room, *arguments, answer=answer)

    def _run(self, which: Script, room: str, *arguments: Any, answer: Answer) -> None:
        name = self._links.room(room)
        self._links.run(which, (name + b":known", name + b":stream"), *arguments, answer=answer)


def _new_epoch() -> str:
    return secrets.token_hex(4)


def fault_of(answer: Any) -> Fault | None:
    """Return why a command was not done, as who published is told it."""
    if isinstance(answer, Exception):
        if not isinstance(answer, LinkDownError):
            _log.warning("the backplane refused a message: %s", answer)
        return BACKPLANE_DOWN
    return None


def page_of(room: str, answer: Any, since: Position | None, limit: int, ttl: float) -> Page | Fault:
    """Return what was read of a stream: all after `since`, or the last messages without it."""
    fault = fault_of(answer)
    if fault is not None:
        return fault
    epoch, top, now, entries = answer
    position = Position(epoch.decode(), top)
    if since is None:
        entries = entries[::-1]
    elif since.epoch != position.epoch or since.offset > top:
        return Page([], position, recovered=False)
    oldest = now - ttl * 1000
    publications = []
    for id_, (_, at, _, envelope) in entries:
        if int(at) > oldest:
            offset = int(id_.partition(b"-")[0])
            publications.append(open_publication(room, position.epoch, offset, envelope))
    if since is None:
        return Page(publications, position, recovered=False)
    first = publications[0].offset if publications else top + 1
    if limit and first != since.offset + 1:
        return Page([], position, recovered=False)
    return Page(publications, position, recovered=True)
