"""Records from NATS: a durable consumer of JetStream for each stream that keeps the subjects.

Records are pulled, so that no more come than may be on their way. Each is acknowledged by itself.
One that comes again while it is on its way, because that takes long, is not taken twice.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tidegate.backplane.nats.link import Link
from tidegate.backplane.nats.servers import Servers
from tidegate.backplane.nats.wire import Message
from tidegate.server.ingest.base import Record, SourceError

if TYPE_CHECKING:
    from tidegate.core.settings import IngestSource

__all__ = ["NatsSource"]

_WAIT_SECONDS: Final = 0.5
_LOST_SECONDS: Final = 3.0  # after which a pull is taken for lost
_ACK_SECONDS: Final = 30
_NANO: Final = 1_000_000_000
_TIMEOUT: Final = 5.0
_MISSING: Final = 10014  # there is no such consumer
_USUAL: Final = (b"Request Timeout", b"No Messages", b"Leadership Change")
"""How a pull ends that brings fewer records than it may."""


class NatsSource:
    """One durable consumer, shared with all that have its name.

    Args:
        settings: what to read.
        node: the name of this node.
    """

    def __init__(self, settings: IngestSource, node: str) -> None:
        self._settings = settings
        self._came = asyncio.Event()
        self._records: deque[Record] = deque()
        self._held: dict[tuple[str, int], str] = {}
        """For each record that is not done, by stream and number, where to acknowledge it."""
        self._down = False
        self._link = Link(
            Servers(settings.url, _TIMEOUT, node),
            "_INBOX.tidegate",
            _TIMEOUT,
            up=self._nothing,
            down=self._lost,
            message=self._message,
            refused=self._refused,
            what=f"ingest {settings.name}",
        )
        self._streams: dict[int, _Stream] = {}
        self._problem = ""

    async def open(self) -> None:
        """Connect, and make the consumers that are not there."""
        await self._link.start()
        subjects: dict[str, list[str]] = {}
        for subject in self._settings.topics:
            found = await self._ask("STREAM.NAMES", {"subject": subject})
            names = found.get("streams") or []
            if not names:
                raise SourceError(f"no stream keeps the subject {subject}")
            for name in names:
                subjects.setdefault(name, []).append(subject)
        for name, own in subjects.items():
            await self._consumer(name, own)
            stream = _Stream(name, f"_INBOX.tidegate.{secrets.token_hex(11)}")
            self._streams[self._link.subscribe(stream.inbox)] = stream

    async def read(self, most: int) -> list[Record]:
        """Ask each stream for records, and return what has come."""
        self._check()
        if not self._records:
            self._came.clear()
            self._pull(most)
            try:
                await asyncio.wait_for(self._came.wait(), _WAIT_SECONDS)
            except TimeoutError:
                return []
            self._check()
        return [self._records.popleft() for _ in range(min(most, len(self._records)))]

    def done(self, record: Record) -> None:
        """Acknowledge a record."""
        reply = self._held.pop(record.token, None)
        if reply is not None:
            self._link.publish(reply, b"+ACK")

    async def commit(self) -> None:
        """Wait until the server has all acknowledgements."""
        taken: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._link.confirm(taken.set_result)
        problem = await taken
        if problem is not None:
            raise problem

    async def lag(self) -> int:
        """Return how many records wait or are not acknowledged."""
        lag = 0
        for stream in self._streams.values():
            info = await self._ask(f"CONSUMER.INFO.{stream.name}.{self._settings.group}", {})
            lag += int(info.get("num_pending", 0)) + int(info.get("num_ack_pending", 0))
        return lag

    async def close(self) -> None:
        """End the connection. The consumers stay."""
        await self._link.stop()

    async def _consumer(self, stream: str, subjects: list[str]) -> None:
        group = self._settings.group
        found = await self._ask(f"CONSUMER.INFO.{stream}.{group}", {}, missing=_MISSING)
        if found:
            return
        config = {
            "durable_name": group,
            "ack_policy": "explicit",
            "ack_wait": _ACK_SECONDS * _NANO,
            "deliver_policy": "new" if self._settings.start == "latest" else "all",
            "filter_subjects": subjects,
            "max_ack_pending": 100_000,
        }
        question = {"stream_name": stream, "config": config}
        await self._ask(f"CONSUMER.CREATE.{stream}.{group}", question)

    async def _ask(self, what: str, question: dict[str, Any], missing: int = 0) -> dict[str, Any]:
        """Ask JetStream something; nothing is returned for what is missing."""
        answer = await self._link.request(f"$JS.API.{what}", msgspec.json.encode(question))
        if answer.status:
            raise SourceError("the server has no JetStream, or not now")
        said = msgspec.json.decode(answer.data, type=dict[str, Any])
        error = said.get("error")
        if error is None:
            return said
        if missing and error.get("err_code") == missing:
            return {}
        raise SourceError(f"JetStream refuses: {error.get('description')}")

    def _pull(self, most: int) -> None:
        question = {"batch": most, "expires": int(_WAIT_SECONDS * _NANO)}
        now = monotonic()
        for stream in self._streams.values():
            if not stream.pulling or now - stream.pulled > _LOST_SECONDS:
                stream.pulling, stream.pulled = most, now
                subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream.name}.{self._settings.group}"
                self._link.publish(subject, msgspec.json.encode(question), stream.inbox)

    def _message(self, message: Message) -> None:
        stream = self._streams.get(message.sid)
        if stream is None:
            return
        if message.status:
            stream.pulling = 0  # the pull has ended, with fewer records than it asked for
            said = message.head.partition(b"\r\n")[0]
            if not any(usual in said for usual in _USUAL):
                words = said.decode("utf-8", "replace").split(None, 2)[2:]
                self._problem = words[0] if words else "nobody answers for the consumer"
            self._came.set()
            return
        stream.pulling -= 1
        reply = message.reply.decode()
        number = _number(reply)
        token = stream.name, number
        known = token in self._held
        self._held[token] = reply
        if not known:
            headers = message.headers()
            place = f"{message.subject.decode()} {number} of {stream.name}"
            subject = message.subject.decode()
            key = subject.rpartition(".")[2]
            self._records.append(Record(subject, key, headers, message.data, place, token))
        self._came.set()

    def _check(self) -> None:
        if self._down:
            raise SourceError("the connection has ended")
        if self._problem:
            raise SourceError(self._problem)

    def _lost(self) -> None:
        self._down = True
        self._came.set()

    def _refused(self, text: str) -> None:
        self._problem = text
        self._came.set()

    def _nothing(self) -> None:
        """There is a link."""


class _Stream:
    """One stream that is read."""

    __slots__ = ("inbox", "name", "pulled", "pulling")

    def __init__(self, name: str, inbox: str) -> None:
        self.name = name
        self.inbox = inbox
        self.pulling = 0
        """How many records the pull that is under way may still bring."""
        self.pulled = 0.0


def _number(reply: str) -> int:
    """Return a record's number in its stream, which the subject of its acknowledgement has.

    `$JS.ACK.<stream>.<consumer>.<tries>.<number>.<of consumer>.<time>.<waiting>`, and with two more
    names after ACK where there are domains.
    """
    parts = reply.split(".")
    return int(parts[5] if len(parts) == 9 else parts[7])
