from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise

import pytest

from tidegate.core.admission import pacing
from tidegate.core.admission.pacing import EARLY, GRACE, HORIZON, Pacer

T0 = 1000.0


def take(pacer: Pacer, key: str | int, now: float) -> float:
    """An attempt that is admitted when its time has come; the delay otherwise."""
    delay = pacer.ask(key, now)
    if not delay:
        pacer.admitted(now)
    return delay


def herd(pacer: Pacer, count: int, now: float = T0, name: str = "client") -> list[float]:
    return [take(pacer, f"{name} {number}", now) for number in range(count)]


class TestSlots:
    def test_are_one_after_another_at_the_rate(self) -> None:
        delays = herd(Pacer(50.0, 20, per_key=1), 1000)
        assert delays[:20] == [0.0] * 20
        assert delays[20:] == pytest.approx([number / 50 for number in range(1, 981)])

    def test_of_one_address_are_as_those_of_many(self) -> None:
        pacer = Pacer(50.0, 20, per_key=1000)
        delays = [take(pacer, "nat", T0) for _ in range(1000)]
        assert delays == herd(Pacer(50.0, 20, per_key=1), 1000)

    @pytest.mark.parametrize(
        ("late", "comes_in"),
        [
            *((-1.0, False), (-EARLY - 0.01, False), (-EARLY + 0.01, True), (0.0, True)),
            *((1.0, True), (GRACE - 0.01, True), (GRACE + 0.01, False)),
        ],
    )
    def test_are_kept_for_a_time(self, late: float, comes_in: bool) -> None:
        pacer = Pacer(1.0, 1, per_key=1)
        delays = herd(pacer, 5)
        assert delays[3] == pytest.approx(3.0)
        # Others make sure that there is no room besides the slots.
        herd(pacer, 50, name="other")
        delay = take(pacer, "client 3", T0 + 3.0 + late)
        if comes_in:
            assert delay == 0.0
        elif late < 0:
            assert delay == pytest.approx(-late)
        else:
            assert delay == 0.0 or delay > 40

    def test_stay_with_a_client_that_comes_early_again_and_again(self) -> None:
        pacer = Pacer(1.0, 1, per_key=100)
        delays = herd(pacer, 31)
        assert take(pacer, "keen", T0) == pytest.approx(31.0)
        for second in range(1, 31):
            assert take(pacer, "keen", T0 + second) == pytest.approx(31.0 - second)
            assert take(pacer, f"client {second}", T0 + delays[second]) == 0.0
        assert take(pacer, "keen", T0 + 31.0) == 0.0

    def test_are_used_once(self) -> None:
        pacer = Pacer(1.0, 1, per_key=1)
        herd(pacer, 20)
        assert take(pacer, "client 5", T0 + 5.0) == 0.0
        assert take(pacer, "client 5", T0 + 5.0) == pytest.approx(15.0)

    def test_of_one_key_are_bounded(self) -> None:
        pacer = Pacer(10.0, 1, per_key=3)
        delays = [take(pacer, "nat", T0) for _ in range(10)]
        assert delays == pytest.approx([0.0, 0.1, 0.2] + 7 * [0.3])
        assert take(pacer, "other", T0) == pytest.approx(0.4)

    def test_of_one_key_are_different_while_clients_keep_coming(self) -> None:
        pacer = Pacer(10.0, 1, per_key=100)
        herd(pacer, 41)
        times = [T0 + 0.4 * number for number in range(9)]
        slots = [now + take(pacer, "nat", now) for now in times]
        assert slots == pytest.approx([T0 + 4.1 + 0.1 * number for number in range(9)])

    def test_that_have_lapsed_are_no_right_to_come_in(self) -> None:
        pacer = Pacer(1.0, 1, per_key=100)
        herd(pacer, 200)
        later = T0 + 300.0
        assert take(pacer, "new", later) == 0.0
        assert take(pacer, "client 150", later) == pytest.approx(1.0)
        assert take(pacer, "other", later) == pytest.approx(2.0)

    def test_are_not_taken_by_attempts_without_one_however_many_there_are(self) -> None:
        pacer = Pacer(100.0, 10, per_key=1)
        delays = herd(pacer, 500)
        holders = {f"client {i}": T0 + delay for i, delay in enumerate(delays) if delay}
        for tick in range(491):
            now = T0 + tick / 100 + 1e-4
            assert min(herd(pacer, 20, now, f"new {tick}")) > 0
            for key in [key for key, slot in holders.items() if slot <= now]:
                assert take(pacer, key, now) == 0.0
                del holders[key]
        assert not holders

    def test_reach_no_farther_than_the_horizon(self) -> None:
        pacer = Pacer(1.0, 1, per_key=1)
        delays = herd(pacer, 3000)
        assert delays[1:601] == pytest.approx([float(n) for n in range(1, 601)])
        beyond = sorted(delays[601:])
        assert beyond[0] > HORIZON
        assert 1.95 * HORIZON < beyond[-1] < 2 * HORIZON + 2
        # All told differently, evenly, and not remembered: the next time is as the first.
        assert max(b - a for a, b in pairwise(beyond)) < 1.0
        assert take(pacer, "client 2999", T0 + 3.0) == pytest.approx(598.0)

    def test_are_bounded_all_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pacing, "SLOTS", 50)
        pacer = Pacer(1000.0, 1, per_key=10)
        delays = herd(pacer, 500)
        assert len(pacer._slots) == 50
        assert len(pacer._claims) == 50
        assert min(delays[51:]) > max(delays[:51])
        assert take(pacer, "client 50", T0 + 0.05) == 0.0


class TestAHerdThatStaysAway:
    def test_gives_its_room_to_others_after_the_grace(self) -> None:
        pacer = Pacer(100.0, 10, per_key=1)
        herd(pacer, 10_000)
        admitted = []
        for tick in range(4000):
            now = T0 + tick / 200
            if take(pacer, f"new {tick}", now) == 0.0:
                admitted.append(now - T0)
        assert admitted[0] == pytest.approx(GRACE, abs=0.02)
        # From then on the full rate, as far as new attempts, 200 a second, come for it.
        assert len(admitted) == pytest.approx((20 - GRACE) * 100 + 10, abs=12)
        most = 100 + 10
        assert min(b - a for a, b in zip(admitted, admitted[most:], strict=False)) > 1.0

    @pytest.mark.parametrize("every", [2, 10])
    def test_makes_room_for_as_many_and_not_for_more(self, every: int) -> None:
        pacer = Pacer(100.0, 10, per_key=1)
        delays = herd(pacer, 3000)
        holders = [T0 + delay for delay in delays[10:]]
        absent = holders[::every]
        admitted = 0
        for number, slot in enumerate(holders, 10):
            # Late, so that the bucket always has room when new attempts come.
            now = slot + 0.5
            if (number - 10) % every:
                assert take(pacer, f"client {number}", now) == 0.0
            admitted += herd(pacer, 3, now, f"new {number}").count(0.0)
            lapsed = bisect_left(absent, now - GRACE)
            assert admitted <= lapsed
        assert admitted >= 0.95 * lapsed

    def test_makes_no_room_that_holders_fill(self) -> None:
        pacer = Pacer(100.0, 10, per_key=1)
        herd(pacer, 10 + 2500)
        admitted = 0
        # Of the first 15 seconds none comes, of the others all, at the end of their second.
        for second in range(15, 25):
            now = T0 + second + 1.0
            if second >= 20:
                admitted += herd(pacer, 30, now - 0.001, f"new {second}").count(0.0)
            for number in range(100):
                assert take(pacer, f"client {10 + 100 * second + number}", now) == 0.0
        assert 0 < admitted <= 10

    def test_is_forgotten_bit_by_bit(self) -> None:
        pacer = Pacer(1000.0, 1, per_key=100)
        herd(pacer, 2000)
        for _ in range(2000):
            take(pacer, "nat", T0)
        for tick in range(300):
            assert take(pacer, f"new {tick}", T0 + 100 + tick) == 0.0
        assert not pacer._claims
        assert not pacer._slots

    def test_makes_no_room_in_the_next_one(self) -> None:
        pacer = Pacer(1.0, 5, per_key=1)
        herd(pacer, 50)
        for tick in range(20):
            take(pacer, "late", T0 + 100 + tick)
        delays = herd(pacer, 20, T0 + 200, "next")
        assert delays[5:] == pytest.approx([float(n) for n in range(1, 16)])
        # The bucket has room while the first holder is not there yet, but no holder stayed away.
        assert take(pacer, "new", T0 + 201.5) == pytest.approx(14.5)


class TestExplain:
    def test_names_the_slot_of_the_key_or_the_next(self) -> None:
        pacer = Pacer(2.0, 1, per_key=5)
        assert pacer.explain("a", T0).detail == "below 2 new connections a second"
        herd(pacer, 11)
        step = pacer.explain("client 4", T0 + 1.0)
        assert not step.passed
        assert step.detail == "more than 2 new connections a second; its slot comes in 1 s"
        assert step.numbers == {"rate": 2.0, "burst": 1, "delay": 1.0, "slots": 1, "next_slot": 4.5}
        new = pacer.explain("new", T0 + 1.0)
        assert new.detail == "more than 2 new connections a second; the next free slot is in 4.5 s"
        assert pacer.explain("client 4", T0 + 2.0).detail == "comes at its slot"
        assert not pacer.explain("new", T0 + 5.4).passed
        assert pacer.explain("new", T0 + 5.5).passed

    def test_names_a_slot_that_was_left(self) -> None:
        pacer = Pacer(1.0, 1, per_key=1)
        herd(pacer, 60)
        assert not pacer.explain("new", T0 + 1.0 + GRACE).passed
        step = pacer.explain("new", T0 + 2.0 + GRACE)
        assert step.passed
        assert step.detail == "takes a slot that is free"


class TestASlotGivenBack:
    @pytest.mark.parametrize("gives_back", [True, False])
    def test_is_for_the_next_that_comes(self, gives_back: bool) -> None:
        pacer = Pacer(1.0, 1, per_key=1)
        assert herd(pacer, 3) == [0.0, 1.0, 2.0]
        assert pacer.ask("client 1", T0 + 1.0) == 0.0
        assert pacer.took_slot
        if gives_back:
            pacer.give_back()
        delay = take(pacer, "other", T0 + 1.0)
        assert delay == (0.0 if gives_back else pytest.approx(2.0))
        # The rate and the slots of all others stay as they are.
        assert take(pacer, "one more", T0 + 1.0) > 1.0
        assert take(pacer, "client 2", T0 + 2.0) == 0.0

    def test_is_none_where_the_bucket_had_room(self) -> None:
        pacer = Pacer(1.0, 2, per_key=1)
        assert pacer.ask("client", T0) == 0.0
        assert not pacer.took_slot

    def test_may_be_one_that_another_left_free(self) -> None:
        pacer = Pacer(1.0, 1, per_key=1)
        herd(pacer, 10)
        for _ in range(2):
            # That of "client 1" has lapsed; who comes in its place gives it back.
            assert pacer.ask("other", T0 + 1.0 + GRACE + 0.5) == 0.0
            assert pacer.took_slot
            pacer.give_back()
