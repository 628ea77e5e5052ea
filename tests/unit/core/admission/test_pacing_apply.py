"""The rate and the burst change while clients hold slots."""

from __future__ import annotations

import pytest

from tests.unit.core.admission.test_pacing import T0, herd, take
from tidegate.core.admission.pacing import GRACE, Pacer


def admitted_at_once(pacer: Pacer, now: float, name: str = "new") -> int:
    """How many of many new attempts are admitted at one moment."""
    return herd(pacer, 2000, now, name).count(0.0)


@pytest.mark.parametrize("rate", [0.5, 2.0, 10.0, 50.0, 1000.0])
@pytest.mark.parametrize("burst", [1, 20])
def test_slots_that_were_given_stay_valid(rate: float, burst: int) -> None:
    pacer = Pacer(10.0, 5, per_key=1)
    delays = herd(pacer, 100)
    pacer.apply(rate, burst, per_key=1, now=T0 + 0.05)
    for number in range(5, 100):
        slot = T0 + delays[number]
        herd(pacer, 3, slot - 0.01, f"new {number}")
        # The listener does not hold the holders back either, but for a burst that is smaller now.
        assert pacer.wait_to_decide(slot) <= 0.5
        assert take(pacer, f"client {number}", slot) == 0.0


def test_a_lower_rate_gives_new_slots_after_the_others_and_farther_apart() -> None:
    pacer = Pacer(10.0, 1, per_key=1)
    herd(pacer, 51)
    pacer.apply(1.0, 1, per_key=1, now=T0)
    assert herd(pacer, 4, name="new") == pytest.approx([5.1, 6.1, 7.1, 8.1])


def test_a_lower_rate_is_in_force_when_the_holders_have_come() -> None:
    pacer = Pacer(10.0, 1, per_key=1)
    delays = herd(pacer, 51)
    pacer.apply(1.0, 1, per_key=1, now=T0)
    for number in range(1, 51):
        assert take(pacer, f"client {number}", T0 + delays[number]) == 0.0
    assert herd(pacer, 4, T0 + 5.01 + GRACE, "new") == pytest.approx([0.0, 1.0, 2.0, 3.0])


@pytest.mark.parametrize(("burst", "wait"), [(1000, 1.0), (10, 2.0)])
def test_a_lower_rate_without_slots_is_in_force_at_once(burst: int, wait: float) -> None:
    pacer = Pacer(1000.0, 1000, per_key=1)
    for number in range(1000):
        assert take(pacer, number, T0) == 0.0
    pacer.apply(1.0, burst, per_key=1, now=T0)
    assert pacer.wait_to_decide(T0) == wait - 1.0
    assert take(pacer, "early", T0 + wait - 0.1) == pytest.approx(0.1)
    assert take(pacer, "early", T0 + wait) == 0.0
    assert take(pacer, "next", T0 + wait) == pytest.approx(1.0)


def test_a_higher_rate_admits_between_the_slots() -> None:
    pacer = Pacer(10.0, 1, per_key=1)
    delays = herd(pacer, 101)
    holders = {f"client {n}": T0 + delay for n, delay in enumerate(delays) if delay}
    pacer.apply(100.0, 1, per_key=1, now=T0)
    admitted = 0
    for tick in range(1, 1000):
        now = T0 + tick / 100
        for key in [key for key, slot in holders.items() if slot <= now]:
            assert take(pacer, key, now) == 0.0
            del holders[key]
            admitted += 1
        admitted += take(pacer, f"new {tick}", now + 0.001) == 0.0
    # New attempts that find the bucket empty get slots at the end, so it is a few fewer.
    assert 0.9 * 1000 <= admitted <= 1.02 * 1000


def test_a_higher_rate_does_not_wait_for_the_lower_one() -> None:
    pacer = Pacer(0.1, 10, per_key=1)
    assert herd(pacer, 11)[10] == pytest.approx(10.0)
    pacer.apply(100.0, 10, per_key=1, now=T0)
    assert take(pacer, "new", T0 + 0.011) == 0.0
    assert pacer.wait_for_room(T0 + 0.011) == pytest.approx(0.009, abs=1e-6)


@pytest.mark.parametrize(
    ("used", "burst", "left"), [(50, 100, 50), (50, 20, 0), (50, 300, 250), (100, 101, 1)]
)
def test_what_was_admitted_lately_stays_counted(used: int, burst: int, left: int) -> None:
    pacer = Pacer(10.0, 100, per_key=1)
    for number in range(used):
        assert take(pacer, number, T0) == 0.0
    pacer.apply(10.0, burst, per_key=1, now=T0)
    assert admitted_at_once(pacer, T0) == left


def test_a_change_of_the_burst_alone_leaves_a_lower_rate_to_settle() -> None:
    pacer = Pacer(100.0, 1, per_key=1)
    delays = herd(pacer, 501)
    pacer.apply(1.0, 1, per_key=1, now=T0)
    pacer.apply(1.0, 5, per_key=1, now=T0 + 1.0)
    for number in range(101, 501):
        slot = T0 + delays[number]
        assert pacer.wait_to_decide(slot) <= 0.02
        assert take(pacer, f"client {number}", slot) == 0.0
    pacer.apply(1.0, 5, per_key=1, now=T0 + 5.0 + GRACE)
    assert admitted_at_once(pacer, T0 + 60.0) == 5


def test_a_change_of_the_burst_alone_does_not_put_the_lower_rate_off() -> None:
    pacer = Pacer(100.0, 1, per_key=1)
    herd(pacer, 51)
    pacer.apply(1.0, 1, per_key=1, now=T0)
    herd(pacer, 20, name="new")
    pacer.apply(1.0, 2, per_key=1, now=T0 + 1.0)
    settled = T0 + 0.51 + GRACE
    for _ in range(2):
        pacer.admitted(settled)
    assert pacer.wait_for_room(settled) == pytest.approx(1.0)


def test_a_rate_that_has_settled_counts_holders_that_come_at_once() -> None:
    pacer = Pacer(100.0, 1, per_key=1)
    herd(pacer, 51)
    pacer.apply(10.0, 1, per_key=1, now=T0)
    pacer.admitted(T0 + 1.0 + GRACE)
    delays = herd(pacer, 21, T0 + 20.0, "later")
    assert delays == pytest.approx([n / 10 for n in range(21)])
    for number in range(1, 21):
        assert take(pacer, f"later {number}", T0 + 22.0) == 0.0
    assert pacer.wait_to_decide(T0 + 22.0) == pytest.approx(1.9)


def test_a_rate_that_had_time_to_settle_is_the_one_that_changes() -> None:
    pacer = Pacer(20.0, 1, per_key=1)
    herd(pacer, 3)
    assert take(pacer, "client 1", T0 + 4.95) == 0.0
    pacer.apply(0.5, 1, per_key=1, now=T0 + 4.95)
    assert herd(pacer, 2, T0 + 4.95, "new") == pytest.approx([0.05, 2.05])
    # From 5.1 s on the lower rate is in force, though none was admitted since.
    later = T0 + 6.95
    pacer.apply(2.0, 1, per_key=1, now=later)
    pacer.admitted(later)
    assert pacer.wait_for_room(later) == pytest.approx(0.5)


def test_a_key_may_have_more_slots_or_keeps_those_it_has() -> None:
    pacer = Pacer(1.0, 1, per_key=2)
    assert [take(pacer, "nat", T0) for _ in range(4)] == pytest.approx([0.0, 1.0, 2.0, 2.0])
    pacer.apply(1.0, 1, per_key=3, now=T0)
    assert [take(pacer, "nat", T0) for _ in range(2)] == pytest.approx([3.0, 3.0])
    pacer.apply(1.0, 1, per_key=1, now=T0)
    assert take(pacer, "nat", T0) == pytest.approx(3.0)
    for second in (1.0, 2.0, 3.0):
        assert take(pacer, "nat", T0 + second) == 0.0


def test_explain_says_the_new_rate() -> None:
    pacer = Pacer(10.0, 1, per_key=1)
    herd(pacer, 5)
    pacer.apply(2.0, 3, per_key=1, now=T0)
    numbers = pacer.explain("new", T0).numbers
    assert (numbers["rate"], numbers["burst"]) == (2.0, 3)
