"""What nodes write down for the others: the last value of each key, in one JetStream stream.

It is what NATS calls a KV bucket, but on subjects of the prefix, so that a user who may use these
needs no more. Every value has a time to live. A value can be written on the condition that it is
the next one after another: so of several nodes that take something, one gets it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from tidegate.backplane.nats.answers import NO_MESSAGE, WRONG_LAST
from tidegate.backplane.nats.link import LinkDownError
from tidegate.backplane.nats.servers import reason_of, unreachable
from tidegate.backplane.nats.stream import Stream
from tidegate.backplane.nats.subjects import token
from tidegate.errors import BackplaneError

if TYPE_CHECKING:
    from tidegate.backplane.nats.bus import Bus
    from tidegate.backplane.nats.wire import Message

__all__ = ["Failed", "State", "Value"]

_log = logging.getLogger("tidegate")

_TOGETHER: Final = 1000
_MOST_TRIES: Final = 20
_AGAIN_SECONDS: Final = 0.05


class Value(NamedTuple):
    """What is written under a key; nothing where `data` is empty."""

    data: bytes
    sequence: int
    """What a value that follows it must expect; 0 where nothing was written."""


class Failed(NamedTuple):
    """A value was not read or written."""

    known: bool
    """Whether it is known that nothing was written: because another node was faster."""


Got: TypeAlias = "Callable[[Value | Failed], None]"


class State(Stream):
    """Reads and writes values.

    Args:
        bus: the connection to the server.
        replicas: on how many servers a new stream is kept.
    """

    def __init__(self, bus: Bus, replicas: int) -> None:
        super().__init__(
            bus.link, f"{bus.prefix}_state", replicas, "sessions.enabled", "sessions or revocations"
        )
        self._subject = f"{bus.prefix}.state."
        self.needed = False
        """Whether a node cannot start without it. Else it is there where JetStream is."""
        self.there = False
        self._made: list[Callable[[], None]] = []
        bus.watch(prepare=self._prepare)

    def made_again(self, told: Callable[[], None]) -> None:
        """Be told when it was made again, and has nothing of what was written."""
        self._made.append(told)

    def made(self) -> None:
        """It was made again."""
        for told in self._made:
            told()

    async def _prepare(self) -> None:
        try:
            await self.prepare()
        except (BackplaneError, LinkDownError, TimeoutError) as error:
            self.there = False
            if self.needed:
                raise unreachable(error) from error
            _log.warning("the backplane keeps no revocations: %s", reason_of(error))
        else:
            self.there = True

    def wanted(self, _config: dict[str, Any]) -> dict[str, Any]:
        """Return what the stream must have."""
        return {
            "subjects": [f"{self._subject}>"],
            "retention": "limits",
            "discard": "old",
            "max_msgs_per_subject": 1,
            "allow_direct": True,
            "allow_msg_ttl": True,
        }

    def get(self, key: tuple[str, ...], done: Got) -> None:
        """Read a value."""
        self._last(self.subject(*key), done)

    def put(
        self,
        key: tuple[str, ...],
        data: bytes,
        ttl: float | None,
        done: Got,
        after: int | None = None,
    ) -> None:
        """Write a value; `done` is told it, or that it was not written.

        Args:
            key: its parts.
            data: empty to remove what is there.
            ttl: after how many seconds it is gone, from 1 on; None for never.
            done: told how it went.
            after: the number of the value that it must follow; None for any.
        """
        head = b"Nats-TTL: never\r\n" if ttl is None else b"Nats-TTL: %ds\r\n" % max(1, ceil(ttl))
        if after is not None:
            head += b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % after

        def answered(answer: Message | Exception) -> None:
            said = self.said(answer)
            if said is None:
                done(Failed(known=False))
            elif said.error is None:
                done(Value(data, said.seq))
            else:
                done(Failed(known=said.error.err_code in WRONG_LAST))

        self._link.ask(self.subject(*key), data, answered, head)

    def all(self, kind: str, done: Callable[[list[bytes] | None], None]) -> None:
        """Read all values whose keys begin with this part; None when that cannot be done."""
        subject = self.subject(kind) + ".>"

        def found(last: Value | Failed) -> None:
            if isinstance(last, Failed):
                done(None)
            else:
                self._fetch(_Reading(subject, last.sequence), done, 0)

        self._last(subject, found)

    def subject(self, *key: str) -> str:
        """Return the subject of a key."""
        return self._subject + ".".join(map(token, key))

    def _last(self, subject: str, done: Got) -> None:
        """Read the last value of a subject, from the server that leads the stream."""

        def answered(answer: Message | Exception) -> None:
            said = self.said(answer)
            if said is not None and said.message is not None:
                done(Value(said.message.data, said.message.seq))
            elif said is not None and said.error is not None and said.error.err_code == NO_MESSAGE:
                done(Value(b"", 0))
            else:
                done(Failed(known=False))

        question = msgspec.json.encode({"last_by_subj": subject})
        self._link.ask(f"$JS.API.STREAM.MSG.GET.{self.name}", question, answered)

    def _fetch(
        self, reading: _Reading, done: Callable[[list[bytes] | None], None], tries: int
    ) -> None:
        """Read values from any server that has them, until the last one is there or gone."""
        if reading.next > reading.until:
            done(reading.found)
            return
        before = reading.next

        def answered(answer: Message | Exception) -> bool:
            if isinstance(answer, Exception):
                done(None)
                return False
            if answer.status == 0:
                reading.take(answer)
                return True
            if reading.next > before:
                self._fetch(reading, done, tries)
            elif tries >= _MOST_TRIES:
                done(reading.found)  # the last one is gone since
            else:  # the server is behind, or nobody leads
                loop = asyncio.get_running_loop()
                loop.call_later(_AGAIN_SECONDS, self._fetch, reading, done, tries + 1)
            return False

        question = {"batch": _TOGETHER, "seq": reading.next, "next_by_subj": reading.subject}
        self._link.ask(f"$JS.API.DIRECT.GET.{self.name}", msgspec.json.encode(question), answered)


class _Reading:
    """What has been read so far."""

    def __init__(self, subject: str, until: int) -> None:
        self.subject = subject
        self.next = 1
        self.until = until
        self.found: list[bytes] = []

    def take(self, message: Message) -> None:
        """Take what the server sends."""
        sequence = message.header(b"Nats-Sequence")
        if sequence.isdigit():
            self.next = int(sequence) + 1
            if message.data:
                self.found.append(message.data)
