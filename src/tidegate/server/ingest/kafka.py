"""Records from Kafka, by a consumer group. Offsets are committed up to the first record not done.

Keys and headers that are no UTF-8 have their bytes replaced, as rooms have names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.kafka.servers import client_options
from tidegate.server.ingest.base import Record

if TYPE_CHECKING:
    from aiokafka import TopicPartition

    from tidegate.core.settings import IngestSource

__all__ = ["KafkaSource", "Partition"]

_WAIT_MS: Final = 500


class KafkaSource:
    """One consumer of a group.

    Args:
        settings: what to read.
        node: the name of this node, which the brokers show.
    """

    def __init__(self, settings: IngestSource, node: str) -> None:
        options = client_options(settings.url, "ingest.sources.url")
        from aiokafka import AIOKafkaConsumer

        self._topics = settings.topics
        self._partitions: dict[TopicPartition, Partition] = {}
        self._consumer = AIOKafkaConsumer(
            group_id=settings.group,
            client_id=f"tidegate-{node}",
            enable_auto_commit=False,
            auto_offset_reset=settings.start,
            **options,
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
