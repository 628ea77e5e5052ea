"""What connections have sent: read for many of them, then handled, and then answered.

Each phase is done for up to :data:`~tidegate.shared.poller.BATCH` connections before the next: the
kernel's part of a read, the interpreter's of a message and the kernel's of a write are each more
than the first cache of a processor holds, and so are fetched once for many (ADR 0016).

This is the inner loop of all receivers, so it looks into them.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from tidegate.core.codes import INVALID_DATA
from tidegate.core.stats import SMALL
from tidegate.engine.application import BLOCKED_SECONDS
from tidegate.engine.sending import uncork
from tidegate.engine.states import OPEN
from tidegate.wire.frames import apply_mask

if TYPE_CHECKING:
    from tidegate.engine.shared import Corked, Shared

__all__ = ["Intake"]

_ANSWER_SECONDS = 0.0002
"""How long an answer waits for those of others, and then for the handler that is at work."""


class Intake:
    """Handles what the poller of one engine has read."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._corked: Corked = deque()

    def handle(self, until: float) -> bool:
        """Handle what was read and send the answers; True when the time ``until`` has come.

        What is left then is handled by the next call.
        """
        shared = self._shared
        shared.corked = self._corked
        try:
            return self._handle(until)
        finally:
            while self._corked:  # once, unless an error of ours came out of it
                shared.poller.guard(self._answer)
            shared.corked = None

    def _answer(self) -> None:
        uncork(self._corked)

    def _handle(self, until: float) -> bool:
        shared = self._shared
        poller = shared.poller
        read, now = poller.read, poller.now
        stats = shared.stats
        incoming = stats.incoming
        max_message = shared.max_message
        rates = shared.rates
        on_message = shared.on_message
        time = monotonic()
        look = time + _ANSWER_SECONDS
        while read:
            connection, data = read.popleft()
            connection.last_seen = now
            try:
                size = len(data)
                payload = None
                # The common case first: one whole, final, small data frame and nothing else.
                if (
                    size > 5
                    and connection._reader is None
                    and connection._state is OPEN
                    and not connection._held
                ):
                    first = data[0]
                    if first == 0x81 or first == 0x82:
                        length = data[1] - 128  # the mask bit, without which this is no length
                        if length < SMALL:
                            if size == length + 6 and length <= max_message:
                                payload = apply_mask(data[6:], data[2:6])
                                incoming.small[length] += 1
                        elif length == 126 and size > 133:
                            length = data[2] << 8 | data[3]
                            if size == length + 8 and length <= max_message:
                                payload = apply_mask(data[8:], data[4:8])
                                incoming.others.observe(length)
                                incoming.other_bytes += size
                if payload is None:
                    connection.take(data)
                else:
                    message: str | bytes = payload
                    if first == 0x82:
                        stats.binary_received += 1
                    else:
                        try:
                            message = payload.decode()
                        except UnicodeDecodeError:
                            connection.fail(INVALID_DATA, "text is not UTF-8")
                            continue
                    # What `Receiver._handle` does, written out: a call costs 1 % of an echo.
                    connection.last_active = now
                    if rates.metered and connection._comes_too_early(message, length, now):
                        continue
                    try:
                        result = on_message(connection, message)
                    except Exception as error:
                        connection._handler_failed(error)
                    else:
                        if result is not None and hasattr(result, "__await__"):
                            connection.run(result)
            except Exception as error:
                poller.crashed(error, connection)
            time = monotonic()
            if time >= look:
                if time - look >= BLOCKED_SECONDS:
                    shared.application.blocked(time - look)
                poller.guard(self._answer)
                if time >= until:
                    return True
                look = time + _ANSWER_SECONDS
        return time >= until
