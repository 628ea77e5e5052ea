from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable

import pytest

from tests.unit.core.admission.test_pacing import take
from tidegate.core.admission.pacing import Pacer

T0 = 1000.0


def most_within(times: list[float], seconds: float) -> int:
    """The most of the times, in rising order, within so many seconds, both ends included."""
    return max(i + 1 - bisect_left(times, t - seconds) for i, t in enumerate(times))


class Storm:
    """A herd that is cut off at T0, a listener, and clients that come back as they please."""

    def __init__(self, pacer: Pacer, *, heeds: bool = True) -> None:
        self.pacer = pacer
        self.heeds = heeds
        self.admitted: list[float] = []
        self.told: Counter[int] = Counter()

    def run(
        self, count: int, key: Callable[[int], str], back: Callable[[float], float]
    ) -> list[float]:
        """When each was admitted, from T0; `back` makes a wait of the delay that is told."""
        coming = [(T0, client) for client in range(count)]
        now = T0
        while coming:
            arrives, client = heapq.heappop(coming)
            now = max(now, arrives)
            if self.heeds:
                now += self.pacer.wait_to_decide(now)
            delay = take(self.pacer, key(client), now)
            if delay:
                self.told[client] += 1
                heapq.heappush(coming, (now + back(delay), client))
            else:
                self.admitted.append(now - T0)
        return self.admitted


def exactly(delay: float) -> float:
    return delay


def rounded_up(delay: float) -> float:
    return float(math.ceil(delay))


def every_second(delay: float) -> float:
    return 1.0


def in_a_hurry(delay: float) -> float:
    return 0.2


BACK = pytest.mark.parametrize("back", [exactly, rounded_up, every_second, in_a_hurry])
KEYS = {
    "an address each": str,
    "ten addresses": lambda client: str(client % 10),
    "one address": lambda client: "127.0.0.1",
}


class TestStorm:
    @BACK
    @pytest.mark.parametrize("key", list(KEYS.values()), ids=list(KEYS))
    @pytest.mark.parametrize(("count", "rate", "burst"), [(2000, 500.0, 100), (200, 20.0, 1)])
    def test_all_are_back_as_fast_as_the_rate(
        self,
        key: Callable[[int], str],
        back: Callable[[float], float],
        count: int,
        rate: float,
        burst: int,
    ) -> None:
        storm = Storm(Pacer(rate, burst, per_key=count))
        admitted = storm.run(count, key, back)
        assert len(admitted) == count
        assert admitted[-1] <= count / rate * 1.05 + 1.0
        assert most_within(admitted, 1.0) <= rate + burst + 1
        if back in (exactly, rounded_up):
            assert max(storm.told.values()) == 1

    @BACK
    def test_without_a_listener_that_waits_those_of_one_second_come_at_once(
        self, back: Callable[[float], float]
    ) -> None:
        storm = Storm(Pacer(200.0, 20, per_key=1), heeds=False)
        admitted = storm.run(2000, str, back)
        assert admitted[-1] <= 2000 / 200 * 1.05 + 1.0
        assert most_within(admitted, 0.5) <= (0.5 + 1.0) * 200 + 20 + 1

    def test_a_listener_does_not_wait_for_new_attempts(self) -> None:
        pacer = Pacer(10.0, 5, per_key=1)
        for number in range(100):
            assert pacer.wait_to_decide(T0) == 0.0
            take(pacer, str(number), T0)
        for number in range(5, 15):
            take(pacer, str(number), T0 + 1.0)
        assert pacer.wait_to_decide(T0 + 1.0) == pytest.approx(0.5)
        assert pacer.wait_to_decide(T0 + 1.25) == pytest.approx(0.25)
        assert pacer.wait_to_decide(T0 + 1.5) == 0.0
