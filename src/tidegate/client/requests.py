"""Requests that wait to be sent, and those that wait for their answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from tidegate.client.clock import Clock
from tidegate.client.errors import ClientError
from tidegate.client.futures import settle
from tidegate.client.retry import seconds

__all__ = [
    "TIMEOUT",
    "Abort",
    "Calls",
    "Done",
    "Encode",
    "Message",
    "QueuePolicy",
    "Requests",
    "Send",
    "error_of",
    "outcome",
]

TIMEOUT = 10.0
"""Seconds to wait for an answer, unless said otherwise."""

Message: TypeAlias = Mapping[str, Any]
QueuePolicy: TypeAlias = Literal["refuse", "drop_oldest"]
"""What happens when the queue is full: the message is refused, or the oldest one dropped."""

Done: TypeAlias = Callable[[Message | ClientError | None], object]
"""Told what came of a request: its answer, an error, or nothing where none was asked for."""
Encode: TypeAlias = Callable[[int | None], str | bytes]
"""Writes a request with this id; may raise an error."""
Send: TypeAlias = Callable[[str | bytes, bool], bool]
"""Sends data, urgent or not; says whether it could go now."""
Abort: TypeAlias = Callable[[], None]
"""Forgets a request, so that nobody is told what comes of it."""


class Calls(Protocol):
    """What sends requests for its parts."""

    def call(
        self,
        message: Message,
        done: Done,
        *,
        timeout: float = TIMEOUT,
        ack: bool = True,
        urgent: bool = False,
    ) -> Abort:
        """Send a request, as in `Requests.add`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    data: str | bytes
    ack: bool
    settle: Done


def _nothing() -> None:
    """There is nothing to forget."""


class Requests:
    """All requests of a client. Answers are handled in the turn in which they come."""

    def __init__(self, clock: Clock, limit: int, policy: QueuePolicy, send: Send) -> None:
        self._clock = clock
        self._limit = limit
        self._policy = policy
        self._send = send
        self._sent: dict[object, _Entry] = {}
        self._queue: dict[int, _Entry] = {}
        self._last = 0

    def add(
        self,
        encode: Encode,
        done: Done,
        *,
        timeout: float = TIMEOUT,
        ack: bool = True,
        urgent: bool = False,
    ) -> Abort:
        """Send a request, or keep it until it can be sent.

        Args:
            encode: writes it.
            done: told the outcome once, in the same turn as the answer comes.
            timeout: seconds to wait for the answer, the time in the queue included.
            ack: whether an answer is asked for.
            urgent: before those that wait, and now or never.
        """
        self._last += 1
        id_ = self._last
        try:
            data = encode(id_ if ack else None)
        except ClientError as error:
            done(error)
            return _nothing
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            done(ClientError("bad_message", str(error)))
            return _nothing

        def forget() -> None:
            cancel()
            self._sent.pop(id_, None)
            self._queue.pop(id_, None)

        def settle(result: Message | ClientError | None) -> None:
            forget()
            done(result)

        entry = _Entry(data, ack, settle)
        cancel = self._clock.call_later(
            timeout, lambda: settle(ClientError("timeout", "No answer came in time"))
        )
        if urgent:
            if self._send(data, True):
                self._sent[id_] = entry
            else:
                settle(_lost())
            return forget
        oldest = next(iter(self._queue.values()), None)
        self._queue[id_] = entry
        self.flush()
        if len(self._queue) > self._limit:
            if self._policy == "refuse" or oldest is None:
                settle(ClientError("queue_full", "Too many messages wait"))
            else:
                oldest.settle(ClientError("dropped", "Newer messages took its place"))
        return forget

    def flush(self) -> None:
        """Send what waits, as far as possible."""
        while self._queue:
            id_, entry = next(iter(self._queue.items()))
            if not self._send(entry.data, False):
                return
            # Sending may have lost the connection, and a listener may have closed the client.
            if self._queue.pop(id_, None) is None:
                continue
            if entry.ack:
                self._sent[id_] = entry
            else:
                entry.settle(None)

    def answer(self, message: Message) -> bool:
        """Take an answer, or an error that may be for nobody; says whether it was for a request."""
        id_ = message.get("id")
        entry = self._sent.get(id_) if isinstance(id_, int | str) else None
        if entry is None:
            return False
        entry.settle(error_of(message) if message["type"] == "error" else message)
        return True

    def lost(self) -> None:
        """The connection was lost: those that were sent fail, and those that wait still wait."""
        for entry in tuple(self._sent.values()):
            entry.settle(_lost())

    def close(self, error: ClientError) -> None:
        """Nothing will be sent any more."""
        for entry in tuple(self._queue.values()):
            entry.settle(error)


async def outcome(call: Callable[[Done], Abort]) -> Message:
    """Make a request, and wait for its answer; a cancelled one is forgotten.

    Raises:
        ClientError: that came instead of the answer.
    """
    # Errors are results too: one that comes together with a cancellation is for nobody.
    future: asyncio.Future[Message | ClientError | None] = (
        asyncio.get_running_loop().create_future()
    )
    abort = call(lambda result: settle(future, result))
    try:
        result = await future
    finally:
        abort()
    if isinstance(result, ClientError):
        raise result
    return result or {}


def error_of(message: Message) -> ClientError:
    """An `error` of the server."""
    return ClientError(
        str(message.get("code")), str(message.get("message")), seconds(message.get("retryAfter"))
    )


def _lost() -> ClientError:
    return ClientError(
        "connection_lost", "The connection was lost; the request may have been carried out"
    )
