"""Records from streams of Valkey or Redis, by a consumer group.

An entry's field `data` is its message and `key` its key; all other fields are its headers. What a
consumer has read and not acknowledged for half a minute is taken over from it: it may have died.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.redis.servers import connector_of
from tidegate.server.ingest.base import Record

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from tidegate.core.settings import IngestSource

__all__ = ["RedisSource"]

_WAIT_MS: Final = 500
_IDLE_MS: Final = 30_000
_TIMEOUT: Final = 5.0
_OTHERS_SECONDS: Final = 10.0


class RedisSource:
    """One consumer of a group.

    Args:
        settings: what to read.
        node: the name of this node, which is that of the consumer.
    """

    _connection: AbstractConnection

    def __init__(self, settings: IngestSource, node: str) -> None:
        self._settings = settings
        self._node = node
        self._connector = connector_of(settings.url, _TIMEOUT)
        self._open = False
        self._own = set(settings.topics)
        """Streams in which this consumer may have entries of before the connection broke."""
        self._after = dict.fromkeys(settings.topics, "0")
        self._looked = -_OTHERS_SECONDS
        self._held: set[tuple[str, str]] = set()
        self._done: dict[str, list[str]] = {}

    async def open(self) -> None:
        """Connect, and make the groups that are not there."""
        connection: Any = self._connector()
        self._connection = connection
        async with asyncio.timeout(_TIMEOUT):
            await connection.connect()
        self._open = True
        start = "$" if self._settings.start == "latest" else "0"
        for topic in self._settings.topics:
            await self._make_group(topic, start)

    async def read(self, most: int) -> list[Record]:
        """Return entries of this consumer's own first, then of others that are gone, then new."""
        group, node = self._settings.group, self._node
        records: list[Record] = []
        if self._own:
            for topic in tuple(self._own):
                found = await self._entries(
                    "XREADGROUP", "GROUP", group, node, "COUNT", most, "STREAMS", topic,
                    self._after[topic],
                )  # fmt: skip
                if not found:
                    self._own.discard(topic)
                for _, id_, _ in found:
                    self._after[topic] = id_
                records += self._records(found)
            if records:
                return records
        if monotonic() - self._looked >= _OTHERS_SECONDS:
            self._looked = monotonic()
            for topic in self._settings.topics:
                answer = await self._command(
                    "XAUTOCLAIM", topic, group, node, _IDLE_MS, "0-0", "COUNT", most
                )
                records += self._records(_entries_of(topic, answer[1]))
            if records:
                return records
        topics = self._settings.topics
        found = await self._entries(
            "XREADGROUP", "GROUP", group, node, "COUNT", most, "BLOCK", _WAIT_MS, "STREAMS",
            *topics, *(">" for _ in topics),
        )  # fmt: skip
        return self._records(found)

    def done(self, record: Record) -> None:
        """Acknowledge a record with the next commit."""
        self._held.discard(record.token)
        self._done.setdefault(record.topic, []).append(record.token[1])

    async def commit(self) -> None:
        """Acknowledge what is done."""
        done, self._done = self._done, {}
        for topic, ids in done.items():
            await self._command("XACK", topic, self._settings.group, *ids)

    async def lag(self) -> int:
        """Return how many entries wait or are not acknowledged."""
        lag = 0
        for topic in self._settings.topics:
            for group in await self._command("XINFO", "GROUPS", topic):
                told = dict(zip(group[::2], group[1::2], strict=False))
                if told.get(b"name", b"").decode() == self._settings.group:
                    lag += int(told.get(b"lag") or 0) + int(told.get(b"pending") or 0)
        return lag

    async def close(self) -> None:
        """Leave the group, unless others must take over what is not done, and disconnect."""
        if not self._open:
            return
        self._open = False
        try:
            if not self._held and not self._done:
                for topic in self._settings.topics:
                    await self._leave(topic)
        finally:
            await self._connection.disconnect(nowait=True)

    async def _leave(self, topic: str) -> None:
        group, node = self._settings.group, self._node
        pending = await self._command("XPENDING", topic, group, "-", "+", 1, node)
        if not pending:
            await self._command("XGROUP", "DELCONSUMER", topic, group, node)

    async def _make_group(self, topic: str, start: str) -> None:
        from redis.exceptions import ResponseError

        try:
            await self._command("XGROUP", "CREATE", topic, self._settings.group, start, "MKSTREAM")
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _entries(self, *command: Any) -> list[tuple[str, str, dict[str, bytes]]]:
        answer = await self._command(*command)
        found = []
        for topic, entries in answer or ():
            found += _entries_of(topic.decode(), entries)
        return found

    async def _command(self, *command: Any) -> Any:
        connection: Any = self._connection
        async with asyncio.timeout(_TIMEOUT):
            await connection.send_command(*command)
            return await connection.read_response(disable_decoding=True)

    def _records(self, entries: list[tuple[str, str, dict[str, bytes]]]) -> list[Record]:
        records = []
        for topic, id_, fields in entries:
            token = topic, id_
            if token in self._held:
                continue  # it is on its way still, and was taken for one of a consumer that is gone
            self._held.add(token)
            value = fields.pop("data", b"")
            headers = {name: text.decode("utf-8", "replace") for name, text in fields.items()}
            key = headers.pop("key", None)
            records.append(Record(topic, key, headers, value, f"{topic} {id_}", token))
        return records


def _entries_of(topic: str, entries: Any) -> list[tuple[str, str, dict[str, bytes]]]:
    found = []
    for id_, fields in entries:
        given = fields or ()  # None for one that was deleted
        values = {
            name.decode("utf-8", "replace"): value
            for name, value in zip(given[::2], given[1::2], strict=False)
        }
        found.append((topic, id_.decode(), values))
    return found
