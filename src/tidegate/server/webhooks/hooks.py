"""Webhooks as the hooks of a node: what the settings name is asked and told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import random
from typing import TYPE_CHECKING, Final

from tidegate.node.asked_identity import AskedIdentifier
from tidegate.node.hooks import Hooks, JoinAnswered, PublishAnswered
from tidegate.server.webhooks.facts import Facts
from tidegate.server.webhooks.questions import Questions
from tidegate.server.webhooks.sending import Sender

if TYPE_CHECKING:
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.settings import Settings
    from tidegate.engine.connection import Connection
    from tidegate.gate.identity import Identifier

__all__ = ["Webhooks"]

_OUTCOMES = ("allowed", "refused", "failed", "sent", "retried", "dropped")

_ANSWER_BYTES: Final = 65_536  # beside the data of a message
_LAST_SECONDS: Final = 5.0


class Webhooks(Hooks):
    """Asks and tells the application at `webhooks.url`.

    Raises:
        ConfigError: the HTTP client is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        hooks = settings.webhooks
        self.counts: Counter[str] = Counter(dict.fromkeys(_OUTCOMES, 0))
        """What became of questions (the first three) and facts."""
        most = _ANSWER_BYTES + settings.messages.max_size
        self._max_data = settings.messages.max_size
        self._sender = Sender(hooks, most)
        self._questions = Questions(hooks, self._sender, self.counts)
        self._facts = Facts(hooks, self._sender, self.counts, random)
        self._told = frozenset(hooks.facts)
        self._asks_connect = "connect" in hooks.questions
        self.asks_join = "join" in hooks.questions
        self.asks_publish = "publish" in hooks.questions
        self.tells_rooms = bool(self._told & {"joined", "left"})
        self.tells_published = "published" in self._told

    @property
    def counters(self) -> tuple[int, ...]:
        """The numbers of `server.metrics.PROCESS_COUNTERS` that are of webhooks, in their order."""
        counts = self.counts
        return (
            counts["allowed"] + counts["refused"],
            counts["failed"],
            counts["sent"],
            counts["retried"],
            counts["dropped"],
        )

    def identifier(self, tokens: Callable[[], Identifier]) -> Identifier | None:
        """Return what asks about attempts, None if nothing is asked.

        Args:
            tokens: returns what identifies by tokens.
        """
        return AskedIdentifier(self._questions.connect, tokens) if self._asks_connect else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send requests while the block runs, and facts that are left at its end."""
        async with self._sender.running():
            sending = asyncio.create_task(self._facts.run())
            try:
                yield
            finally:
                self._questions.stop()
                self._facts.end()
                # A request that hangs must not hold up the end of the server.
                _, late = await asyncio.wait([sending], timeout=_LAST_SECONDS)
                for task in late:
                    task.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    # Questions.

    def join(self, connection: Connection, room: str, done: JoinAnswered) -> None:
        """Ask whether a connection may join a room."""
        self._questions.begin(self._questions.join(connection.id, connection.user, room), done)

    def publish(
        self,
        connection: Connection,  # noqa: ARG002 - the publication names it
        publication: Publication,
        done: PublishAnswered,
    ) -> None:
        """Ask whether, and what, a connection may publish."""
        self._questions.begin(self._questions.publish(publication, self._max_data), done)

    # Facts.

    def connected(self, connection: Connection) -> None:
        """A client was welcomed."""
        self._tell(
            "connected",
            {
                "connectionId": connection.id,
                "user": connection.user,
                "tier": connection.tier,
                "address": connection.address,
            },
        )

    def disconnected(self, connection: Connection, code: int, text: str) -> None:
        """Its connection has ended."""
        self._tell(
            "disconnected",
            {
                "connectionId": connection.id,
                "user": connection.user,
                "code": code,
                "reason": text,
            },
        )

    def joined(self, connection: Connection, room: str) -> None:
        """A connection is a member of a room."""
        self._tell("joined", _member(connection, room))

    def left(self, connection: Connection, room: str) -> None:
        """A connection is no member of a room any more."""
        self._tell("left", _member(connection, room))

    def published(self, connection: Connection, publication: Publication) -> None:
        """A message of a client was published."""
        data = _member(connection, publication.room) | {"data": publication.data}
        if publication.offset:
            data |= {"offset": publication.offset, "epoch": publication.epoch}
        self._tell("published", data)

    def _tell(self, kind: str, data: dict[str, object]) -> None:
        if kind in self._told:
            self._facts.tell(kind, data)


def _member(connection: Connection, room: str) -> dict[str, object]:
    return {"connectionId": connection.id, "user": connection.user, "room": room}
