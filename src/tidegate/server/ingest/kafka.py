"""Records from Kafka, by a consumer group. Offsets are committed up to the first record not done.

Keys and headers that are no UTF-8 have their bytes replaced, as rooms have names.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from tidegate.errors import ConfigError
from tidegate.server.ingest.base import Record

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from tidegate.core.settings import IngestSource

__all__ = ["KafkaSource", "Partition", "client_options"]

_WAIT_MS: Final = 500


class KafkaSource:
    """One consumer of a group.

    Args:
        settings: what to read.
        node: the name of this node, which the brokers show.
    """

    def __init__(self, settings: IngestSource, node: str) -> None:
        try:
            from aiokafka import AIOKafkaConsumer
        except ImportError:
            problem = "Kafka needs aiokafka: pip install 'tidegate[kafka]'"
            raise ConfigError(f"ingest.sources.url: {problem}") from None
        self._topics = settings.topics
        self._partitions: dict[TopicPartition, Partition] = {}
        self._consumer = AIOKafkaConsumer(
            group_id=settings.group,
            client_id=f"tidegate-{node}",
            enable_auto_commit=False,
            auto_offset_reset=settings.start,
            **client_options(settings.url),
        )

    async def open(self) -> None:
        """Connect, and join the group."""
        from aiokafka import ConsumerRebalanceListener

        partitions = self._partitions

        class Listener(ConsumerRebalanceListener):
            def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
                """Forget them: another consumer reads them again from what is committed."""
                for partition in revoked:
                    partitions.pop(partition, None)

            def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
                """Begin when the first record comes."""

        self._consumer.subscribe(self._topics, listener=Listener())
        await self._consumer.start()

    async def read(self, most: int) -> list[Record]:
        """Return the next records of all partitions."""
        found = await self._consumer.getmany(timeout_ms=_WAIT_MS, max_records=most)
        records = []
        for where, messages in found.items():
            partition = self._partitions.setdefault(where, Partition())
            for message in messages:
                partition.add(message.offset)
                records.append(
                    Record(
                        message.topic,
                        None if message.key is None else message.key.decode("utf-8", "replace"),
                        {
                            name: (value or b"").decode("utf-8", "replace")
                            for name, value in message.headers
                        },
                        message.value or b"",
                        f"{message.topic} {message.partition} {message.offset}",
                        (where, partition, message.offset),
                    )
                )
        return records

    def done(self, record: Record) -> None:
        """Let the offset go on, once all before it are done."""
        _, partition, offset = record.token
        partition.done(offset)

    async def commit(self) -> None:
        """Commit the offsets that have gone on."""
        from aiokafka.errors import CommitFailedError, IllegalStateError

        offsets = {}
        for where, partition in self._partitions.items():
            if partition.next != partition.committed:
                offsets[where] = partition.next
        if not offsets:
            return
        try:
            await self._consumer.commit(offsets)
        except (CommitFailedError, IllegalStateError):
            return  # the group is being shared out anew
        for where, offset in offsets.items():
            if where in self._partitions:
                self._partitions[where].committed = offset

    async def lag(self) -> int:
        """Return how many records of the own partitions are not committed."""
        mine = self._consumer.assignment()
        if not mine:
            return 0
        ends = await self._consumer.end_offsets(mine)
        lag = 0
        for where, end in ends.items():
            partition = self._partitions.get(where)
            here = partition.next if partition else await self._consumer.position(where)
            lag += max(0, end - here)
        return lag

    async def close(self) -> None:
        """Leave the group."""
        await self._consumer.stop()


class Partition:
    """The records of a partition that are not done."""

    __slots__ = ("_done", "_open", "committed", "next")

    def __init__(self) -> None:
        self._open: dict[int, None] = {}
        self._done: set[int] = set()
        self.next = -1
        """The offset to commit: that of the first record that is not done."""
        self.committed = -1

    def add(self, offset: int) -> None:
        """A record was read; they come in the order of their offsets."""
        if self.next < 0:
            self.next = self.committed = offset
        self._open[offset] = None

    def done(self, offset: int) -> None:
        """A record is done."""
        self._done.add(offset)
        while self._open and (first := next(iter(self._open))) in self._done:
            del self._open[first]
            self._done.discard(first)
            self.next = next(iter(self._open), first + 1)


def client_options(url: str) -> dict[str, Any]:
    """Return how a client of Kafka connects, from a URL.

    kafka://[user:password@]host[:port][,host[:port]][?sasl=SCRAM-SHA-512]
    kafka+tls://...[?ca=/path/of/ca.pem]
    """
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    tls = parts.scheme == "kafka+tls"
    servers = [host if ":" in host else f"{host}:9092" for host in hosts.split(",")]
    made: dict[str, Any] = {"bootstrap_servers": servers}
    if tls:
        try:
            made["ssl_context"] = ssl.create_default_context(cafile=options.get("ca"))
        except OSError as error:
            problem = error.strerror or "is not valid"
            raise ConfigError(f"ingest.sources.url: the file of ca: {problem}") from None
    if credentials:
        user, _, password = credentials.partition(":")
        made |= {
            "security_protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT",
            "sasl_mechanism": options.get("sasl", "PLAIN"),
            "sasl_plain_username": unquote(user),
            "sasl_plain_password": unquote(password),
        }
    elif tls:
        made["security_protocol"] = "SSL"
    return made
