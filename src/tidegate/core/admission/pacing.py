"""How fast new connections are admitted: reservation of future slots.

An attempt that is too early is given a slot, a time to come back at. Every client gets another
slot, so that a herd that comes at once is spread exactly as fast as the server admits it. No client
needs jitter of its own. (What one connection sends is limited by its `Meter`.)

The Pacer keeps two points in time. One is the theoretical arrival time of the generic cell rate
algorithm (ITU-T I.371, annex A): when the bucket of those that were admitted is full again. The
other is the next slot to give:

         now                                                     next slot
          |  T  |  T  |  T  |                                        |
    ------+-----+-----+-----+--- ... one slot every 1 / rate s ... --+---- free
        admitted          each slot is kept for its key

While that slot is in the future, an attempt without a slot gets it, and a holder is admitted at its
own. No other attempt is admitted, except in place of a holder that did not come back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Hashable, Sequence
from math import inf
from typing import Final

from tidegate.core.admission.attempt import Step

__all__ = ["EARLY", "GRACE", "HORIZON", "SLOTS", "Pacer"]

EARLY: Final = 0.05
"""Seconds before its slot at which a holder is admitted: clocks do not run at the same speed."""

GRACE: Final = 5.0
"""Seconds after its slot at which a holder is admitted. A delay that is rounded up to whole seconds
makes it one second late, waiting behind all others of that second makes it another, and the rest is
for the network and the handshakes."""

HORIZON: Final = 600.0
"""Seconds from now to the farthest slot that is given."""

SLOTS: Final = 1 << 17
"""The most slots that are remembered, for all keys together: about 31 MB."""

# No client is told less than a second, so none that was told is back within the first.
_APART: Final = 1.0

# Lapsed slots looked at in one call: more than a call can add, so that they never pile up, and few,
# so that the first attempt after a herd that never came back does not wait for all of them.
_SWEEP: Final = 16

# No clock is finer, and sums of floats are not exact.
_INSTANT: Final = 1e-6

# Multiples of the golden ratio, modulo 1, are spread evenly, however many of them there are.
_GOLDEN: Final = 0.6180339887498949


class _Claim(list[float]):
    """The slots of one key, earliest first, and when there was last an attempt with that key."""

    __slots__ = ("seen",)

    def __init__(self, slot: float, now: float) -> None:
        super().__init__((slot,))  # with room for one, which is all that nearly every key has
        self.seen = now


class Pacer:
    """Admits `rate` new connections a second, `burst` (1 or more) at once after a quiet time.

    An attempt that is too early is given a slot. It is kept under the attempt's key (an address or
    a user) from `EARLY` before it until `GRACE` after it, and no attempt without a slot takes it.
    When nobody comes for it, another attempt is admitted in its place, so that a herd that stays
    away does not hold up the others.

    Several clients may share a key, as those behind one address do, so a key has up to `per_key`
    slots: attempts less than a second apart are taken for different clients. A single one later,
    ahead of its time, is taken for a client that was told already. It keeps its slot, and is told
    what remains of its delay. A client that heeds its delay is admitted when it is back, unless
    another one of its key came in its place.

    Ask about every attempt (`ask`), and tell it of every connection that was admitted (`admitted`):
    an attempt that is refused for another reason uses up nothing of the rate.

    However clients behave, in any `w` seconds no more are admitted than
    `rate * (w + GRACE + EARLY) + burst + 1`. That takes holders that are as late as they may be and
    then all come at once. A caller that heeds `wait_to_decide` admits no more than
    `rate * w + burst + 1`.

    An operation is O(1), or O(log n) for a key with n slots, and moving their times in memory.
    """

    __slots__ = (
        "_burst",
        "_claims",
        "_full",
        "_gap",
        "_keys",
        "_next",
        "_per_key",
        "_rate",
        "_settles",
        "_slots",
        "_spread",
        "_step",
        "_vacant",
        "took_slot",
    )

    def __init__(self, rate: float, burst: int, *, per_key: int) -> None:
        self._rate = rate
        self._burst = burst
        self._per_key = per_key
        # The time from one slot to the next.
        self._gap = 1.0 / rate
        # The time that one admission takes of the bucket: the same, but while a lower rate settles.
        self._step = self._gap
        self._settles = inf
        # The theoretical arrival time: the bucket of those admitted is full from then on.
        self._full = 0.0
        # The next slot to give. Those before it are given; when it is past, none is to come.
        self._next = 0.0
        self._claims: dict[Hashable, _Claim] = {}
        # Every slot in the order of time, until it has lapsed, whether or not it was used.
        # Two deques side by side, because pairs would take 50 bytes more for each slot.
        self._slots: deque[float] = deque()
        self._keys: deque[Hashable] = deque()
        # How many attempts without a slot may be admitted, when the bucket has room, though slots
        # are still to come: in place of holders that did not come, and where a rate was raised.
        self._vacant = 0
        self._spread = 0.0
        self.took_slot = False
        """Whether the last attempt that may be admitted used up a slot: then see `give_back`."""

    def apply(self, rate: float, burst: int, *, per_key: int, now: float) -> None:
        """Take over another rate, burst and bound of slots for a key; `now` is monotonic seconds.

        Slots that were given stay valid. With a higher rate, attempts without a slot are admitted
        between them. With a lower one, the old rate holds until the holders have come, at the
        latest `GRACE` seconds after the last slot; new slots are given after that one, at the new
        rate. What was admitted lately stays counted, up to the new burst.
        """
        if now >= self._settles:
            self._settle(now)
        gap = 1.0 / rate
        to_come = self._next - now
        if to_come > 0 and gap < self._gap:
            self._vacant += int(to_come / gap - to_come / self._gap)
        if gap != self._gap:
            self._settles = self._slots[-1] + GRACE if self._slots else now
        self._rate = rate
        self._burst = burst
        self._per_key = per_key
        self._gap = gap
        if gap <= self._step or self._settles <= now:
            self._settle(now)

    def ask(self, key: Hashable, now: float) -> float:
        """Return 0.0 if an attempt may be admitted, or in how many seconds it is to return. HOT.

        `now` is in monotonic seconds. The client may be told the delay rounded up to whole
        seconds, and must not be told less, nor less than a second.
        """
        soon = now + _INSTANT
        claim = self._claim(key, now)
        apart = False
        if claim is not None:
            apart = now - claim.seen >= _APART
            claim.seen = now
            # One of many with the same key may be new: too early, it would take another's slot.
            if claim[0] <= (now + EARLY if apart else soon):
                self._drop(key, claim, 1)
                self.took_slot = True
                return 0.0
        free = self._free()
        if free <= soon and (self._next <= soon or self._vacant):
            self.took_slot = self._next > soon
            if self.took_slot:
                self._vacant -= 1
            return 0.0
        if claim is not None and (apart or len(claim) >= self._per_key):
            # The last one: at any other, one more client of this key would take another's slot.
            return claim[-1] - now
        return self._reserve(key, max(self._next, free), now)

    def admitted(self, now: float) -> None:
        """Count a connection that is admitted now. HOT."""
        self._full = (self._full if self._full > now else now) + self._step
        if now >= self._settles:
            self._settle(now)

    def give_back(self) -> None:
        """An attempt that used up a slot (`took_slot`) is given up: another one may come for it."""
        self._vacant += 1

    def wait_for_room(self, now: float) -> float:
        """Return the seconds until one without a slot, that waited here, may be admitted."""
        wait = self._free() - now
        return wait if wait > _INSTANT else 0.0

    def wait_to_decide(self, now: float) -> float:
        """Return the seconds for which no attempt is to be decided about, 0.0 for none.

        Delays that are rounded up to whole seconds bring all the holders of one second at once.
        They wait then, and are admitted at the rate. Call it before every `ask`. Attempts without
        a slot that are too early do not make it wait, since they must be told when to come.
        """
        wait = self._full - now - self._burst * self._step
        return wait if wait > _INSTANT else 0.0

    def explain(self, key: Hashable, now: float) -> Step:
        """What `ask` would return, and why. Takes nothing.

        The client is taken for one that was told its slot already, if its key has any.
        """
        soon = now + _INSTANT
        slots: Sequence[float] = self._claim(key, now) or ()
        free = self._free()
        delay = 0.0
        if slots and slots[0] <= now + EARLY:
            detail = "comes at its slot"
        elif free <= soon and self._next <= soon:
            detail = f"below {self._rate:g} new connections a second"
        elif free <= soon and self._vacant:
            detail = "takes a slot that is free"
        else:
            delay = slots[-1] - now if slots else max(self._next, free) - now
            held = "its slot comes" if slots else "the next free slot is"
            detail = f"more than {self._rate:g} new connections a second; {held} in {delay:.3g} s"
        numbers: dict[str, float | int | str | None] = {
            "rate": self._rate,
            "burst": self._burst,
            "delay": round(delay, 3),
            "slots": len(slots),
            "next_slot": round(max(0.0, self._next - now), 3),
        }
        return Step("pacing", not delay, detail, numbers)

    def _claim(self, key: Hashable, now: float) -> _Claim | None:
        """The slots of a key that have not lapsed; None when there are none."""
        if self._slots:
            self._lapse(now)
        claim = self._claims.get(key)
        if claim is not None and claim[0] < now - GRACE:
            self._vacate(key, claim, bisect_left(claim, now - GRACE))
        return claim or None

    def _free(self) -> float:
        """When the bucket of those admitted has room for one more."""
        return self._full - (self._burst - 1) * self._step

    def _settle(self, now: float) -> None:
        """Put the rate in force for the bucket, which stays as empty as it is.

        What was taken beyond a burst that is smaller now is forgiven, but for the one that the
        bounds allow: at a lower rate it would keep all attempts out for a long time.
        """
        used = max(0.0, self._full - now) / self._step
        self._step = self._gap
        self._full = now + min(used, self._burst + 1.0) * self._step
        self._settles = inf

    def _reserve(self, key: Hashable, slot: float, now: float) -> float:
        delay = slot - now
        if delay > HORIZON or len(self._slots) >= SLOTS:
            # After all slots, at no exact time, and not remembered.
            self._spread = (self._spread + _GOLDEN) % 1.0
            return delay * (1.0 + self._spread)
        if not self._slots:
            # What an earlier herd left free is not for this one.
            self._vacant = 0
        claim = self._claims.get(key)
        if claim is None:
            self._claims[key] = _Claim(slot, now)
        else:
            claim.append(slot)
        self._slots.append(slot)
        self._keys.append(key)
        self._next = slot + self._gap
        return delay

    def _lapse(self, now: float) -> None:
        """Forget some of the slots whose time is over."""
        slots = self._slots
        for _ in range(min(_SWEEP, len(slots))):
            slot = slots[0]
            if slot >= now - GRACE:
                break
            slots.popleft()
            key = self._keys.popleft()
            claim = self._claims.get(key)
            if claim is not None and claim[0] == slot:
                self._vacate(key, claim, 1)

    def _vacate(self, key: Hashable, claim: _Claim, count: int) -> None:
        self._drop(key, claim, count)
        self._vacant += count

    def _drop(self, key: Hashable, claim: _Claim, count: int) -> None:
        del claim[:count]
        if not claim:
            del self._claims[key]
