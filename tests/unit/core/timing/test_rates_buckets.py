from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.timing.rates import Abuse, TokenBucket

RATES = st.floats(0.1, 1e6)
BURSTS = st.floats(1, 1e6)


class TestTokenBucket:
    def test_is_full_at_first_and_gains_at_its_rate(self) -> None:
        bucket = TokenBucket(10, 5)
        assert [bucket.take(1, 100.0) for _ in range(5)] == [0.0] * 5
        assert bucket.take(1, 100.0) == pytest.approx(0.1)
        assert bucket.take(1, 100.06) == pytest.approx(0.04)
        assert bucket.take(1, 100.1) == 0.0
        assert bucket.take(3, 100.15) == pytest.approx(0.25)

    def test_holds_no_more_than_its_burst(self) -> None:
        bucket = TokenBucket(10, 5)
        assert bucket.take(5, 1e6) == 0.0
        assert bucket.take(5, 2e6) == 0.0
        assert bucket.take(1, 2e6) == pytest.approx(0.1)

    def test_a_refusal_costs_nothing(self) -> None:
        bucket = TokenBucket(1, 4)
        assert bucket.take(3, 10.0) == 0.0
        for _ in range(9):
            assert bucket.take(2, 10.0) == pytest.approx(1.0)
        assert bucket.take(1, 10.0) == 0.0

    def test_more_than_the_burst_is_taken_from_a_full_bucket_and_made_up_for(self) -> None:
        bucket = TokenBucket(10, 5)
        assert bucket.take(1, 0.0) == 0.0
        assert bucket.take(25, 0.0) == pytest.approx(0.1)
        assert bucket.take(25, 0.1) == 0.0
        assert bucket.take(1, 0.1) == pytest.approx(2.1)
        assert bucket.take(1, 2.2) == 0.0

    @pytest.mark.parametrize(
        ("rate", "burst", "left"), [(1, 100, 60), (1000, 100, 100), (1, 20, 20), (10, 300, 150)]
    )
    def test_keeps_what_is_in_it_when_it_is_changed(
        self, rate: float, burst: float, left: int
    ) -> None:
        bucket = TokenBucket(10, 100)
        assert bucket.take(50, 0.0) == 0.0
        bucket.rate, bucket.burst = rate, burst
        assert [bucket.take(1, 10.0) for _ in range(left)] == [0.0] * left
        assert bucket.take(1, 10.0) == pytest.approx(1 / rate)

    @given(
        rate=RATES,
        burst=BURSTS,
        steps=st.lists(st.tuples(st.floats(0, 3), st.floats(0.01, 2)), max_size=40),
    )
    @settings(max_examples=60)
    def test_never_gives_more_than_rate_and_burst_and_names_the_exact_delay(
        self, rate: float, burst: float, steps: list[tuple[float, float]]
    ) -> None:
        bucket = TokenBucket(rate, burst)
        now, taken = 1e6, 0.0
        taken_at: list[tuple[float, float, float]] = []
        for wait, share in steps:
            now += wait * burst / rate
            amount = share * burst
            delay = bucket.take(amount, now)
            if delay:
                # A bit earlier is too early, and the moment it names is not.
                assert bucket.take(amount, now + 0.99 * delay - 2e-6) > 0
                now += delay
                assert bucket.take(amount, now) == 0.0
            taken_at.append((now, taken, amount))
            taken += amount
        slack = rate * 1e-5 + burst * 1e-6
        for index, (start, before, _) in enumerate(taken_at):
            for end, until, last in taken_at[index:]:
                # Only the last may be larger than the bucket.
                allowed = rate * (end - start) + burst + max(0.0, last - burst)
                assert until + last - before <= allowed + slack


class TestAbuse:
    def test_is_so_many_times_within_the_window(self) -> None:
        abuse = Abuse(3, 10.0)
        assert [abuse.happened(now) for now in (0.0, 5.0, 10.5)] == [False, False, False]
        assert abuse.happened(15.0)
        assert abuse.happened(16.0)
        assert not abuse.happened(25.5)

    @pytest.mark.parametrize(("limit", "expected"), [(1, [True, True]), (2, [False, True])])
    def test_counts_what_happens_at_the_same_time(self, limit: int, expected: list[bool]) -> None:
        abuse = Abuse(limit, 1.0)
        assert [abuse.happened(7.0) for _ in range(2)] == expected

    @given(
        limit=st.integers(1, 5),
        window=st.integers(1, 20),
        waits=st.lists(st.integers(0, 12), max_size=50),
    )
    @settings(max_examples=100)
    def test_agrees_with_a_list_of_all_times(
        self, limit: int, window: int, waits: list[int]
    ) -> None:
        abuse = Abuse(limit, float(window))
        now, times = 100, deque[int]()
        for wait in waits:
            now += wait
            times.append(now)
            within = sum(1 for time in times if now - time <= window)
            assert abuse.happened(float(now)) == (within >= limit)
