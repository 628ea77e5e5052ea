"""Which peers are due a ping, which are dead and which are idle: one structure for all of them.

A wheel of buckets goes round once in each interval. A peer sits in one bucket and is pinged when
the wheel reaches it, then moves to the bucket one interval ahead:

    bucket:   [..] [..] [ due now ] [..] [..] [ one interval ahead ]
                             |  ping                  ^
                             +------------------------+

Peers that were pinged wait in batches, one for each tick, until the timeout has passed. A peer that
showed no life since its ping is dead then. Any frame is life, not only a pong.

The interval may change at any time: the wheel goes round slower or faster from where it is, and no
peer has to be moved.

The wheel follows a clock that does not run while the server itself stands still. While a loop is
blocked or a machine sleeps, nothing is read of what the peers send, so that time does not count
against them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from math import ceil
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

__all__ = ["Beat", "Heartbeat", "Peer"]

_BUCKETS: Final = 128
# One interval, and as far as two ticks can go beyond it: in the shortest interval, that is another.
_SIZE: Final = 2 * _BUCKETS + 2
_SHORTEST_TICK: Final = 0.05
_LONGEST_TICK: Final = 1.0
_LEAST_PINGS: Final = 128
_STALL: Final = 1.0


class Peer(Hashable, Protocol):
    """What Heartbeat needs of a connection.

    `last_seen` and `last_active` are when a frame, and when a message, last came from it, in
    monotonic seconds. `beat` is Heartbeat's own: the bucket, or -1 when the peer is in none.
    """

    last_seen: float
    last_active: float
    beat: int


P = TypeVar("P", bound=Peer)


class Beat(NamedTuple, Generic[P]):
    """What is due after a tick. Read the lists, do not change them.

    `pings` are due a ping now. `dead` showed no life in time and are forgotten already. `idle`
    sent no message for longer than the idle timeout; a peer that stays is named again.
    """

    pings: list[P]
    dead: list[P]
    idle: list[P]


class Heartbeat(Generic[P]):
    """The heartbeat of all connections of a node.

    `interval` is the time between pings, `timeout` the time to show life after one, both in
    seconds and above 0; `idle_timeout` is in seconds, 0 for never. Call `tick` every `period`
    seconds, also while there are no peers: a late tick is taken for a stall.

    A peer is pinged one interval after it was added, then every interval. One tick names about
    twice its even share of pings at most, so that a burst of new peers is pinged over half an
    interval, and is spread out from then on. A peer that never shows life is dead at the latest
    1.5 intervals and the timeout after it was added, and a few ticks.
    """

    __slots__ = (
        "_batches",
        "_count",
        "_expected",
        "_farthest",
        "_from_clock",
        "_from_step",
        "_hand",
        "_idle_timeout",
        "_origin",
        "_overdue",
        "_reach",
        "_stalls",
        "_sweep",
        "_sweep_step",
        "_ticked",
        "_timeout",
        "_tolerance",
        "_wheel",
        "_width",
        "period",
    )

    def __init__(self, interval: float, timeout: float, idle_timeout: float, now: float) -> None:
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._wheel: list[dict[P, None]] = [{} for _ in range(_SIZE)]
        self._hand = 0
        self._origin = self._ticked = now
        self._from_clock = self._from_step = 0.0
        self._pace(interval)
        self._expected = now + self.period
        self._overdue: deque[tuple[int, dict[P, None]]] = deque()
        self._batches: deque[tuple[float, float, list[P]]] = deque()
        self._stalls: deque[tuple[float, float]] = deque()
        self._sweep = 0.0
        self._count = 0

    def apply(self, interval: float, timeout: float, idle_timeout: float) -> None:
        """Take over other times. Peers that were pinged already keep their deadline.

        See `set_interval` for the peers that wait for their next ping. With a shorter
        `idle_timeout`, peers that were silent for that long are idle at once.
        """
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self.set_interval(interval)

    def set_interval(self, interval: float) -> None:
        """Ping every `interval` seconds, from the last tick on; O(1).

        What is left of a peer's present interval is stretched or shortened in proportion.
        """
        # Not from now: the time since the tick may turn out to be a stall.
        clock = self._ticked - self._origin
        self._from_step = self._step(clock)
        self._from_clock = clock
        self._pace(interval)

    def _pace(self, interval: float) -> None:
        self._width = interval / _BUCKETS
        self.period = min(max(self._width, _SHORTEST_TICK), _LONGEST_TICK)
        # A peer that answers within half the timeout survives a stall too short to be noticed.
        self._tolerance = min(max(_STALL, 4 * self.period), self._timeout / 2)
        # At twice the wheel's speed at least, or the sweep would stay long beside some peers.
        visit = min(interval / 2, self._idle_timeout / 4) or interval
        self._sweep_step = _SIZE * min(self.period / visit, 1.0)
        # A peer is added between two ticks, of which the second may be late, and is not pinged
        # before its time.
        self._reach = min(_BUCKETS + 1 + ceil(2 * self.period / self._width), _SIZE - 1)
        self._farthest = self._hand + self._reach

    def _step(self, clock: float) -> float:
        """How far the wheel has come by then, in buckets."""
        return self._from_step + (clock - self._from_clock) / self._width

    def add(self, peer: P, now: float) -> None:
        """Begin to watch a peer, whose first ping is due one interval after `now`.

        A peer that is watched must not be added again. One that was removed, or reported dead,
        may be; its `last_seen` must be up to date then.
        """
        step = int(self._step(now - self._origin)) + _BUCKETS + 1
        # After a stall that no tick has seen yet, the wheel does not reach as far as that.
        if step > self._farthest:
            step = self._farthest
        peer.beat = beat = step % _SIZE
        self._wheel[beat][peer] = None
        self._count += 1

    def remove(self, peer: P) -> None:
        """Forget a peer, if it is watched: it is not reported any more."""
        beat = peer.beat
        if beat >= 0:
            self._wheel[beat].pop(peer, None)
            peer.beat = -1
            self._count -= 1

    def tick(self, now: float) -> Beat[P]:
        """Move the wheel to `now` (monotonic seconds) and return what is due."""
        steps = self._advance(now)
        clock = now - self._origin
        dead = self._dead(clock)
        pings = self._due(steps)
        if pings:
            self._batches.append((clock + self._timeout, now, pings))
        return Beat(pings, dead, self._idle(now) if self._idle_timeout else [])

    def __len__(self) -> int:
        """How many peers are watched."""
        return self._count

    def _advance(self, now: float) -> int:
        late = now - self._expected
        if late > self._tolerance:
            self._origin += late
            if self._idle_timeout:
                self._stalls.append((now, late))
        self._ticked = now
        self._expected = now + self.period
        hand = int(self._step(now - self._origin))
        steps = hand - self._hand
        for step in range(self._hand + 1, hand + 1):
            beat = step % _SIZE
            if self._wheel[beat]:
                self._overdue.append((beat, self._wheel[beat]))
                self._wheel[beat] = {}
        self._hand = hand
        self._farthest = hand + self._reach
        return steps

    def _dead(self, clock: float) -> list[P]:
        dead: list[P] = []
        batches = self._batches
        while batches and batches[0][0] <= clock:
            _, pinged, peers = batches.popleft()
            for peer in peers:
                if peer.beat >= 0 and peer.last_seen < pinged:
                    self.remove(peer)
                    dead.append(peer)
        return dead

    def _due(self, steps: int) -> list[P]:
        pings: list[P] = []
        wheel = self._wheel
        ahead = (self._hand + _BUCKETS) % _SIZE
        room = max(_LEAST_PINGS, -(-2 * self._count // _BUCKETS)) * max(1, steps)
        while self._overdue and len(pings) < room:
            beat, bucket = self._overdue[0]
            while bucket and len(pings) < room:
                peer, _ = bucket.popitem()
                # A peer that was removed since is still here; removal looks in the wheel only.
                if peer.beat == beat:
                    peer.beat = ahead
                    wheel[ahead][peer] = None
                    pings.append(peer)
            if not bucket:
                self._overdue.popleft()
        return pings

    def _idle(self, now: float) -> list[P]:
        idle: list[P] = []
        limit = self._idle_timeout
        first = int(self._sweep)
        self._sweep += self._sweep_step
        for step in range(first, int(self._sweep)):
            for peer in self._wheel[step % _SIZE]:
                silence = now - peer.last_active
                if silence > limit and silence > limit + self._stalled(peer.last_active):
                    idle.append(peer)
        self._sweep %= _SIZE
        # Past this, a peer that was silent since before the stall is idle in spite of it.
        while self._stalls:
            end = self._stalls[0][0]
            if now - end <= limit + self._stalled(end):
                break
            self._stalls.popleft()
        return idle

    def _stalled(self, since: float) -> float:
        """How long the server stood still since then."""
        return sum(length for end, length in self._stalls if since < end)
