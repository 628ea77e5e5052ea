"""A connection to Kafka that is made again when it ends, and reads on from where it was.

It has a producer and a consumer of aiokafka. The consumer reads all partitions of the topic and is
in no group: every node gets everything. A new node begins at the end; one that was away first reads
what came in the meantime. What the servers do not have any more is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from tidegate.backplane.kafka.sending import Sending
from tidegate.backplane.kafka.servers import reason_of, tell_why, unreachable
from tidegate.backplane.kafka.topic import make_topic
from tidegate.errors import BackplaneError

if TYPE_CHECKING:
    from tidegate.backplane.traffic import Traffic

__all__ = ["Link"]

_log = logging.getLogger("tidegate")

_FIRST_DELAY: Final = 0.05
_MOST_DELAY: Final = 1.0
_LOOK_SECONDS: Final = 1.0
_ATTEMPT: Final = 5  # timeouts that an attempt to connect may take, with all its steps
_MOST_RECORDS: Final = 500  # that are delivered before the loop does something else
_FETCH_WAIT_MS: Final = 250  # a server answers at once when there is something
_FETCH_BYTES: Final = 8 << 20
_BATCH_BYTES: Final = 256 << 10
_REQUEST_BYTES: Final = 2 << 20  # more than what `Sending` takes
_METADATA_MS: Final = 10_000  # after which a new partition is seen


class Link:
    """A connection to the servers of a cluster.

    Args:
        options: how to connect, by `client_options`.
        topic: what carries everything.
        replicas: on how many servers a new topic is kept.
        timeout: seconds in which an answer must come.
        traffic: counts.
        down: called when there is no connection any more.
        record: told the key and the value of what comes.
        lost: told the partitions of which messages may be missing; None for all.
    """

    def __init__(
        self,
        options: dict[str, Any],
        topic: str,
        replicas: int,
        timeout: float,
        traffic: Traffic,
        *,
        down: Callable[[], None],
        record: Callable[[bytes, bytes], None],
        lost: Callable[[Iterable[int] | None], None],
    ) -> None:
        milliseconds = round(timeout * 1000)
        self._options = {**options, "request_timeout_ms": milliseconds}
        self._topic = topic
        self._replicas = replicas
        self._timeout = timeout
        self._traffic = traffic
        self._down, self._record, self._lost = down, record, lost
        self._next: dict[Any, int] = {}
        """The offset of each partition that is read next."""
        self._goal: dict[Any, int] = {}
        """Where the partitions ended when it connected, or was seen to last."""
        self._producer: Any = None
        self._consumer: Any = None
        self._task: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self.sending: Sending | None = None
        """What publishes; None where there is no connection."""
        self.partitions = 0
        self.heard = False
        """Whether what was missed has been read, so that it hears the others."""

    async def start(self) -> None:
        """Connect, and go on to.

        Raises:
            BackplaneError: no server can be reached, or the topic cannot be made.
        """
        from aiokafka.errors import KafkaError

        try:
            try:
                await self._connect()
            except (KafkaError, TimeoutError):
                await tell_why(self._options)
                raise
        except BackplaneError:
            raise
        except (KafkaError, TimeoutError, OSError) as error:
            raise unreachable(error) from error
        finally:
            if self.sending is None:
                await self._finish()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End the connection, and call nobody any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        if self.sending is not None:
            self.sending.forget()
        self._end()
        await self._finish()

    async def _run(self) -> None:
        """Serve, and connect again whenever the connection ends."""
        while True:
            try:
                await self._serve()
            except Exception as error:  # whatever a library makes of a server that fails
                _log.warning("the link to the backplane has ended: %s", reason_of(error))
            self._end()
            began, delay = monotonic(), _FIRST_DELAY
            problem = ""
            while self.sending is None:
                await asyncio.sleep(delay * (0.5 + random() / 2))  # noqa: S311 - no secret
                delay = min(delay * 2, _MOST_DELAY)
                try:
                    await self._connect()
                except Exception as error:
                    self._end()
                    if reason_of(error) != problem:
                        problem = reason_of(error)
                        _log.warning("the backplane cannot be reached: %s", problem)
            self._traffic.reconnects += 1
            away = monotonic() - began
            _log.warning("the link to the backplane is back after %.1f s", away)

    def _end(self) -> None:
        """Give the connection up. What aiokafka has to end takes a while, in the background."""
        sending, self.sending = self.sending, None
        self.heard = False
        for closing in (_closed_producer(self._producer), _closed_consumer(self._consumer)):
            task = asyncio.get_running_loop().create_task(closing)
            self._ending.add(task)
            task.add_done_callback(self._ended)
        self._producer = self._consumer = None
        if sending is not None:
            sending.fail()
            self._down()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled():
            task.exception()  # it was given up anyway

    async def _finish(self) -> None:
        """Wait until what was given up has ended."""
        self._end()
        _, late = await asyncio.wait(tuple(self._ending), timeout=self._timeout * _ATTEMPT)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _connect(self) -> None:
        from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

        async with asyncio.timeout(self._timeout * _ATTEMPT):
            made = await make_topic(self._options, self._topic, self._replicas)
            more = {**self._options, "metadata_max_age_ms": _METADATA_MS}
            self._producer = AIOKafkaProducer(
                acks="all",
                enable_idempotence=True,
                max_batch_size=_BATCH_BYTES,
                max_request_size=_REQUEST_BYTES,
                **more,
            )
            await self._producer.start()
            sender = self._producer._sender
            # What aiokafka does when it fails is meant for transactions, and fails without one.
            sender.sender_task.remove_done_callback(sender._fail_all)
            count = len(await self._producer.partitions_for(self._topic))
            where = [TopicPartition(self._topic, number) for number in range(count)]
            self._consumer = consumer = AIOKafkaConsumer(
                auto_offset_reset="none",
                enable_auto_commit=False,
                fetch_max_wait_ms=_FETCH_WAIT_MS,
                fetch_max_bytes=_FETCH_BYTES,
                **more,
            )
            consumer.assign(where)
            await consumer.start()
            ends = await consumer.end_offsets(where)
            begins = await consumer.beginning_offsets(where) if self._next else ends
        lost: set[int] | None = set()
        if (made and self._next) or count < len(self._next):
            lost, self._next = None, {}
        elif self._next:
            lost = {
                one.partition
                for one, offset in self._next.items()
                if not begins[one] <= offset <= ends[one]
            }
        for one in where:
            # A log that is shorter now was cut: what is in it was read before.
            offset = max(begins[one], min(self._next.get(one, begins[one]), ends[one]))
            self._next[one] = offset
            consumer.seek(one, offset)
        self._goal, self.partitions = ends, count
        self.sending = Sending(self._producer, self._topic, self._timeout, self._traffic)
        if lost is None or lost:
            self._lost(lost)
        self._look()

    async def _serve(self) -> None:
        """Send and read until something fails, and raise why."""
        assert self.sending is not None
        work = self._read(), self._watch(), self.sending.run()
        tasks = [asyncio.ensure_future(one) for one in work]
        sends = self._producer._sender.sender_task
        try:
            ended, _ = await asyncio.wait((*tasks, sends), return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _read(self) -> None:
        """Deliver what comes."""
        from aiokafka.errors import OffsetOutOfRangeError

        consumer, record, traffic = self._consumer, self._record, self._traffic
        while True:
            try:
                found = await consumer.getmany(timeout_ms=1000, max_records=_MOST_RECORDS)
            except OffsetOutOfRangeError as error:
                await self._skip(error.args[0])
                continue
            for where, records in found.items():
                for one in records:
                    traffic.received += 1
                    traffic.bytes_received += len(one.value or b"")
                    self._next[where] = one.offset + 1
                    record(one.key or b"", one.value or b"")
            if found:
                self._look()
            await asyncio.sleep(0)

    async def _skip(self, offsets: dict[Any, int]) -> None:
        """These offsets are not there: go on with the oldest one that is, or after the last one."""
        begins = await self._consumer.beginning_offsets(tuple(offsets))
        ends = await self._consumer.end_offsets(tuple(offsets))
        for one, offset in offsets.items():
            self._next[one] = max(begins[one], min(offset, ends[one]))
            self._consumer.seek(one, self._next[one])
        self._lost({one.partition for one in offsets})

    async def _watch(self) -> None:
        """Find out whether the servers answer, and all that they have comes."""
        consumer, moved, before = self._consumer, monotonic(), dict(self._next)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if any(self._next[one] < end for one, end in self._goal.items()):
                if self._next != before:
                    moved, before = monotonic(), dict(self._next)
                elif monotonic() - moved > self._timeout + _LOOK_SECONDS:
                    raise TimeoutError("what was published does not come")
            else:
                moved, before = monotonic(), dict(self._next)
            self._goal = await consumer.end_offsets(tuple(self._next))
            if len(consumer.partitions_for_topic(self._topic) or ()) != self.partitions:
                raise ConnectionError("the topic has another number of partitions now")

    def _look(self) -> None:
        """See whether all has been read that was there when it connected."""
        if not self.heard:
            self.heard = all(self._next[one] >= end for one, end in self._goal.items())


async def _closed_producer(producer: Any) -> None:
    """End a producer, with all that it would repeat forever: an idempotent one never gives up."""
    from aiokafka.errors import ProducerClosed

    if producer is None:
        return
    producer._message_accumulator.fail_all(ProducerClosed())
    try:
        await producer.stop()
    finally:
        await producer.client.close()


async def _closed_consumer(consumer: Any) -> None:
    """End a consumer. While it waits to try again, its `stop` ends with what has cancelled that."""
    if consumer is None:
        return
    try:
        await consumer.stop()
    finally:
        await consumer._client.close()
