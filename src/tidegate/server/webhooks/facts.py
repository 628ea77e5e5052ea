"""Facts: batches of what has happened, in its order, sent again until they are taken or given up.

tell -> queue -> batch -> POST -> taken
                   ^        |
                   +--wait--+ failure, up to `retries` times; then the batch is dropped
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from msgspec import json

from tidegate.server.webhooks.events import event
from tidegate.server.webhooks.sending import Sender, SendingError

if TYPE_CHECKING:
    from collections import Counter

    from tidegate.core.settings import WebhooksSettings

__all__ = ["Facts"]

_log = logging.getLogger("tidegate")

_BATCH: Final = 100
_BATCH_BYTES: Final = 512 * 1024
_QUEUE_BYTES: Final = 64 * 1024 * 1024
_GATHER_SECONDS: Final = 0.05  # so that many that happen together are one request
_LEAST_WAIT: Final = 0.5
_MOST_WAIT: Final = 30.0
_LAST_SECONDS: Final = 3.0


class Facts:
    """The queue of facts, bounded in number and bytes, and what sends it.

    Args:
        counts: counts what became of the facts.
        chance: returns numbers from 0 to 1.
    """

    def __init__(
        self,
        settings: WebhooksSettings,
        sender: Sender,
        counts: Counter[str],
        chance: Callable[[], float],
    ) -> None:
        self._sender = sender
        self._counts = counts
        self._chance = chance
        self._most = settings.queue
        self._retries = settings.retries
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._some = asyncio.Event()
        self._ending = False
        self._dropping = False

    def __len__(self) -> int:
        """How many wait to be sent."""
        return len(self._queue)

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Send a fact, soon. It is dropped when too many wait."""
        encoded = json.encode(event(kind, data))
        if len(self._queue) >= self._most or self._bytes + len(encoded) > _QUEUE_BYTES:
            self._drop(1)
            return
        self._queue.append(encoded)
        self._bytes += len(encoded)
        self._some.set()

    async def run(self) -> None:
        """Send until `end`, and then what is left, once and for a few seconds."""
        while not self._ending:
            await self._some.wait()
            if not self._ending:
                await asyncio.sleep(_GATHER_SECONDS)
            self._some.clear()
            while self._queue and not self._ending:
                await self._send(self._take(), self._retries)
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                while self._queue:
                    await self._send(self._take(), 0)
        except TimeoutError:
            pass
        if self._queue:
            self._drop(len(self._queue))

    def end(self) -> None:
        """Let `run` end."""
        self._ending = True
        self._some.set()

    def _take(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._queue and len(batch) < _BATCH:
            size += len(self._queue[0])
            if batch and size > _BATCH_BYTES:
                break
            batch.append(self._queue.popleft())
            self._bytes -= len(batch[-1])
        return batch

    async def _send(self, batch: list[bytes], retries: int) -> None:
        body = b'{"type":"facts","events":[' + b",".join(batch) + b"]}"
        for number in range(retries + 1):
            try:
                await self._sender.post(body)
            except SendingError as error:
                if number == retries or self._ending:
                    _log.error("%d facts were dropped: %s", len(batch), error)
                    self._counts["dropped"] += len(batch)
                    return
                self._counts["retried"] += 1
                await self._wait(number)
            else:
                self._counts["sent"] += len(batch)
                self._dropping = False
                return

    async def _wait(self, number: int) -> None:
        """Wait before the next try; the end of the server ends the wait."""
        most = min(_MOST_WAIT, _LEAST_WAIT * 2**number)
        delay = most * (0.5 + self._chance() / 2)  # nodes that failed together come apart
        loop = asyncio.get_running_loop()
        until = loop.time() + delay
        while not self._ending and (left := until - loop.time()) > 0:
            await asyncio.sleep(min(left, 0.25))

    def _drop(self, count: int) -> None:
        self._counts["dropped"] += count
        if not self._dropping:
            self._dropping = True
            _log.error("facts for webhooks are dropped, because too many wait")
