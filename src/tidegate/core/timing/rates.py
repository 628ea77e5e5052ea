"""What one connection may send: messages, bytes, joins and control frames, by the second.

`Rates` is what every connection may send, and may change at any time; a `Meter` is what one
connection has used of it lately. Each of its buckets is one number: the theoretical arrival time of
the generic cell rate algorithm (ITU-T I.371, annex A), which is when the bucket is full again. A
meter whose buckets are all full says nothing, and may be thrown away.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from tidegate.core.settings import MessagesSettings

__all__ = ["ABUSE_SECONDS", "Abuse", "Meter", "Rates", "TokenBucket"]

ABUSE_SECONDS: Final = 10.0
"""The time within which `messages.abuse_after` refusals close a connection."""

# No clock is finer, and sums of floats are not exact.
_INSTANT: Final = 1e-7


class TokenBucket:
    """Holds up to `burst` tokens, full at first, and gains `rate` a second; both above 0.

    Both may be changed at any time: what is in the bucket stays there, up to the new burst.
    """

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = 0.0

    def take(self, amount: float, now: float) -> float:
        """Take tokens and return 0.0, or take none and return the seconds to wait. HOT.

        `now` is in monotonic seconds. An amount above `burst` is taken when the bucket is full,
        and is made up for afterwards, so that the rate holds for amounts of any size.
        """
        rate = self.rate
        burst = self.burst
        level = self._level + (now - self._at) * rate
        if level > burst:
            level = burst
        missing = (amount if amount < burst else burst) - level
        if missing > rate * _INSTANT:
            return missing / rate
        self._level = level - amount
        self._at = now
        return 0.0


class Abuse:
    """Tells when something has happened `limit` times (1 or more) within `window` seconds."""

    __slots__ = ("_times", "_window")

    def __init__(self, limit: int, window: float) -> None:
        self._times: deque[float] = deque(maxlen=limit)
        self._window = window

    def apply(self, limit: int) -> None:
        """Take over another limit; what was counted stays counted, up to the new limit."""
        if limit != self._times.maxlen:
            self._times = deque(self._times, maxlen=limit)

    def happened(self, now: float) -> bool:
        """Count one time, at `now` in monotonic seconds; True when that is too often."""
        times = self._times
        times.append(now)
        return len(times) == times.maxlen and now - times[0] <= self._window

    def is_over(self, now: float) -> bool:
        """Whether the last time is so long ago that it does not matter any more."""
        return not self._times or now - self._times[-1] > self._window


class Rates:
    """How fast each connection may send. `join_burst` is how many joins may come at once."""

    __slots__ = (
        "_most",
        "_settings",
        "abuse_after",
        "byte_slack",
        "byte_step",
        "control_slack",
        "control_step",
        "join_slack",
        "join_step",
        "message_slack",
        "message_step",
        "metered",
    )

    def __init__(self, settings: MessagesSettings, join_burst: int) -> None:
        self._most = math.inf
        self.apply(settings, join_burst)

    def apply(self, settings: MessagesSettings, join_burst: int) -> None:
        """Take over other settings, in force at once for all meters.

        A `limit` that was set stays in force. What a meter has counted stays counted: a bucket
        that is not full yet is full at the time at which it would have been.
        """
        self._settings = settings
        self.abuse_after = settings.abuse_after
        self.join_step, self.join_slack = _steps(settings.joins_per_second, max(1, join_burst))
        rate = settings.control_per_second
        self.control_step, self.control_slack = _steps(rate, max(1.0, rate))
        rate = settings.bytes_per_second
        self.byte_step, self.byte_slack = _steps(rate, settings.bytes_at_once)
        self.limit(self._most)

    def limit(self, most: float) -> None:
        """Allow at most so many messages a second, above 0, whatever the settings allow.

        The burst then shrinks in proportion: it is worth as many seconds as in the settings.
        """
        self._most = most
        rate, burst = self._settings.per_second, float(self._settings.burst)
        if rate > most:
            burst = max(1.0, burst * most / rate)
        if (rate == 0 or rate > most) and most < math.inf:
            rate = most
        self.message_step, self.message_slack = _steps(rate, burst)
        self.metered = self.message_step > 0 or self.byte_step > 0


def _steps(rate: float, burst: float) -> tuple[float, float]:
    """The time that one takes, and how far ahead of its time the last one of a burst is."""
    step = 1 / rate if rate else 0.0
    return step, (burst - 1) * step + _INSTANT


class Meter:
    """How much one connection has sent lately. `now` is in monotonic seconds."""

    __slots__ = ("_abuse", "_bytes", "_controls", "_joins", "_messages", "_rates", "ready_at")

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._messages = 0.0
        self._bytes = 0.0
        self._joins = 0.0
        self._controls = 0.0
        self._abuse: Abuse | None = None
        self.ready_at = 0.0
        """When the next message may come, of whatever size."""

    def charge(self, size: int, now: float) -> None:
        """Count a message of `size` bytes and set `ready_at`. HOT.

        A message that needs more bytes than are left is made up for afterwards, so that the rate
        holds for messages of any size.
        """
        rates = self._rates
        full = self._messages
        self._messages = full = (full if full > now else now) + rates.message_step
        ready = full - rates.message_slack
        if rates.byte_step:
            full = self._bytes
            self._bytes = full = (full if full > now else now) + size * rates.byte_step
            full -= rates.byte_slack
            if full > ready:
                ready = full
        self.ready_at = ready

    def take_join(self, now: float) -> float:
        """Count a join and return 0.0, or count none and return the seconds to wait."""
        rates = self._rates
        full = max(self._joins, now)
        delay = full - rates.join_slack - now
        if delay > 0:
            return delay
        self._joins = full + rates.join_step
        return 0.0

    def take_control(self, now: float) -> bool:
        """Count a ping or pong of the peer; False when there are too many."""
        rates = self._rates
        full = max(self._controls, now)
        if full - rates.control_slack > now:
            return False
        self._controls = full + rates.control_step
        return True

    def refused(self, now: float) -> bool:
        """Count a message that was refused; True when that happened too often."""
        if self._abuse is None:
            self._abuse = Abuse(self._rates.abuse_after, ABUSE_SECONDS)
        else:
            self._abuse.apply(self._rates.abuse_after)
        return self._abuse.happened(now)

    def is_full(self, now: float) -> bool:
        """Whether nothing was used lately, so that a new meter would say the same."""
        latest = max(self._messages, self._bytes, self._joins, self._controls)
        return latest <= now and (self._abuse is None or self._abuse.is_over(now))
