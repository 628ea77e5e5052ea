"""What an application is asked before clients do something, and told when they have done it.

A question may be answered late: until then, nothing else of the same connection is carried out, so
that its messages keep their order. Nobody else waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Publication
    from tidegate.engine.connection import Connection

__all__ = ["Hooks", "JoinAnswered", "PublishAnswered"]

JoinAnswered: TypeAlias = "Callable[[Fault | None], None]"
PublishAnswered: TypeAlias = "Callable[[Publication | Fault], None]"


class Hooks:
    """Override what you want to be asked or told. No method may raise.

    The answer to a question is given by calling `done` once, at once or later, in the same thread.
    """

    asks_join: bool = False
    """Whether `join` is asked."""
    asks_publish: bool = False
    """Whether `publish` is asked."""
    tells_rooms: bool = False
    """Whether `joined` and `left` are told."""
    tells_published: bool = False
    """Whether `published` is told."""

    def join(self, connection: Connection, room: str, done: JoinAnswered) -> None:
        """A client wants to join a room: None allows it, a fault refuses."""

    def publish(
        self, connection: Connection, publication: Publication, done: PublishAnswered
    ) -> None:
        """A client wants to publish: the publication, or another one, allows; a fault refuses."""

    def connected(self, connection: Connection) -> None:
        """A client was welcomed, for the first time or back in its session."""

    def disconnected(self, connection: Connection, code: int, text: str) -> None:
        """The connection of a client that was welcomed has ended."""

    def joined(self, connection: Connection, room: str) -> None:
        """A connection is a member of a room; told again when its client resumes its session."""

    def left(self, connection: Connection, room: str) -> None:
        """A connection is no member of a room any more."""

    def published(self, connection: Connection, publication: Publication) -> None:
        """A message of a client was published."""
