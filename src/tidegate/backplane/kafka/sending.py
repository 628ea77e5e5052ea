"""What a node publishes: it waits here until Kafka has taken it, for as long as the timeout says.

A message is acknowledged when all replicas in sync have it. Until then aiokafka repeats it, and the
servers drop what comes twice. When one was not taken in time, the connection is given up, with all
that waits: nothing is sent later that was answered with a fault.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.codes import BACKPLANE_DOWN, OVERLOADED, TOO_BIG

if TYPE_CHECKING:
    from tidegate.backplane.base import Done
    from tidegate.backplane.traffic import Traffic

__all__ = ["Sending"]

_LARGEST: Final = 1_000_000  # bytes: what a broker takes by default, but for the record's frame
_MOST_WAITING: Final = 64 << 20
_OVERHEAD: Final = 256


class Sending:
    """The messages of one connection that are not acknowledged.

    Args:
        producer: a started producer of aiokafka.
        topic: what to publish to.
        timeout: seconds in which Kafka must have taken a message.
        traffic: counts.
    """

    def __init__(self, producer: Any, topic: str, timeout: float, traffic: Traffic) -> None:
        from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

        self._producer = producer
        self._topic = topic
        self._timeout = timeout
        self._traffic = traffic
        self._refusals = (MessageSizeTooLargeError, TopicAuthorizationFailedError)
        self._too_large = MessageSizeTooLargeError
        self._unsent: deque[tuple[int, int, bytes, bytes]] = deque()
        self._waiting: dict[int, tuple[float, int, Done]] = {}
        """When each came, its bytes, and who wants to know. The first came first."""
        self._bytes = 0
        self._number = 0
        self._wake = asyncio.Event()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, partition: int, key: bytes, data: bytes, done: Done) -> None:
        """Publish a message; `done` is told when Kafka has it, or why not. HOT."""
        size = len(key) + len(data)
        if size > _LARGEST:
            done(TOO_BIG)
            return
        size += _OVERHEAD
        if self._bytes + size > _MOST_WAITING:
            self._traffic.errors["down"] += 1
            done(OVERLOADED)
            return
        self._number = number = self._number + 1
        self._bytes += size
        self._waiting[number] = monotonic(), size, done
        self._unsent.append((number, partition, key, data))
        self._wake.set()

    async def run(self) -> None:
        """Send what is published, until it is cancelled.

        Raises:
            Exception: nothing can be published over this connection any more.
        """
        feeding = asyncio.ensure_future(self._feed())
        try:
            while not self._broken.done() and not feeding.done():
                await asyncio.wait(
                    (feeding, self._broken),
                    timeout=self._timeout / 4,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for came, _, _ in self._waiting.values():
                    if monotonic() - came > self._timeout:
                        raise TimeoutError(f"a message was not taken in {self._timeout:g} s")
                    break
            await (self._broken if self._broken.done() else feeding)
        finally:
            feeding.cancel()
            await asyncio.wait((feeding,))
            for ended in (feeding, self._broken):
                if ended.done() and not ended.cancelled():
                    ended.exception()  # one is raised, and the other one says the same

    def fail(self) -> None:
        """Tell all that wait that it is not known whether their messages were taken."""
        self._broken.cancel()
        self._unsent.clear()
        waiting, self._waiting = self._waiting, {}
        self._traffic.errors["lost"] += len(waiting)
        for _, _, done in waiting.values():
            done(BACKPLANE_DOWN)

    def forget(self) -> None:
        """Call nobody any more."""
        self._broken.cancel()
        self._unsent.clear()
        self._waiting.clear()

    async def _feed(self) -> None:
        unsent, send, topic = self._unsent, self._producer.send, self._topic
        while True:
            await self._wake.wait()
            self._wake.clear()
            while unsent:
                number, partition, key, data = unsent.popleft()
                future = await send(topic, data, key, partition)
                future.add_done_callback(partial(self._sent, number))

    def _sent(self, number: int, future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        _, size, done = self._waiting.pop(number, (0.0, 0, None))
        if done is None:
            return  # it was told already
        self._bytes -= size
        if error is None:
            self._traffic.published += 1
            self._traffic.bytes_sent += size - _OVERHEAD
            done(None)
            return
        self._traffic.errors["refused"] += 1
        done(TOO_BIG if isinstance(error, self._too_large) else BACKPLANE_DOWN)
        if not isinstance(error, self._refusals) and not self._broken.done():
            self._broken.set_exception(error)
