"""Interval, timeout and idle timeout change while peers are watched."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.timing.heartbeat import Heartbeat


class Peer:
    def __init__(self, now: float) -> None:
        self.last_seen = self.last_active = now
        self.beat = -1
        self.pinged: list[float] = []


class Loop:
    def __init__(self, interval: float = 30.0, timeout: float = 10.0, idle: float = 0.0) -> None:
        self.now = 1000.0
        self.heartbeat = Heartbeat[Peer](interval, timeout, idle, self.now)
        self.dead: list[float] = []
        self.idle: list[float] = []
        self.most = 0

    def add(self, count: int = 1) -> list[Peer]:
        peers = [Peer(self.now) for _ in range(count)]
        for peer in peers:
            self.heartbeat.add(peer, self.now)
        return peers

    def run(self, seconds: float, answers: bool = True) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += self.heartbeat.period
            beat = self.heartbeat.tick(self.now)
            for peer in beat.pings:
                peer.pinged.append(self.now)
                if answers:
                    peer.last_seen = self.now
            self.dead += [self.now for _ in beat.dead]
            self.idle += [self.now for _ in beat.idle]
            self.most = max(self.most, len(beat.pings))


def gaps(peer: Peer) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(peer.pinged)]


@pytest.mark.parametrize("interval", [45.0, 60.0, 120.0])
def test_the_new_interval_holds_from_the_next_ping_on(interval: float) -> None:
    loop = Loop()
    (peer,) = loop.add()
    loop.run(31)
    loop.heartbeat.set_interval(interval)
    loop.run(5 * interval)
    first, *rest = gaps(peer)
    assert 30 < first <= interval + 2
    assert rest == pytest.approx([interval] * len(rest), abs=2)
    assert len(rest) >= 3
    assert not loop.dead


def test_what_is_left_is_stretched_in_proportion() -> None:
    loop = Loop()
    (peer,) = loop.add()
    loop.run(15)
    loop.heartbeat.set_interval(120.0)  # half of the interval is left: 15 s become 60
    loop.run(100)
    assert peer.pinged == [pytest.approx(1000 + 15 + 60, abs=2)]
    loop.heartbeat.set_interval(30.0)
    loop.run(40)
    # 40 of 120 s are gone by then, so 20 of 30 s are left.
    assert peer.pinged[1] == pytest.approx(1000 + 115 + 20, abs=2)


def test_back_to_the_first_interval_is_as_if_nothing_had_been() -> None:
    loop = Loop()
    loop.add(3)
    loop.heartbeat.set_interval(120.0)
    loop.run(500)
    loop.heartbeat.set_interval(30.0)
    loop.run(200)
    (peer,) = loop.add()
    loop.run(200)
    assert peer.pinged[0] == pytest.approx(loop.heartbeat.period + 1730, abs=2)
    assert gaps(peer) == pytest.approx([30.0] * len(gaps(peer)), abs=1)


def test_a_silent_peer_is_found_by_the_same_timeout() -> None:
    loop = Loop()
    loop.add()
    loop.run(31)  # pinged just now
    loop.heartbeat.set_interval(120.0)
    loop.run(20, answers=False)
    assert not loop.dead  # it answered that one
    loop.run(140, answers=False)
    (dead,) = loop.dead
    assert 1000 + 30 + 120 - 2 < dead < 1000 + 31 + 120 + 14


def test_the_change_is_no_stall_and_a_stall_at_the_change_kills_nobody() -> None:
    loop = Loop(interval=30.0, timeout=10.0)
    peers = loop.add(500)
    loop.run(35)
    loop.now += 300  # nothing is read
    loop.heartbeat.set_interval(120.0)
    loop.heartbeat.set_interval(45.0)
    loop.run(200)
    assert not loop.dead
    assert len(loop.heartbeat) == 500
    for peer in peers:
        assert len(peer.pinged) >= 4


def test_pings_stay_spread_out_over_the_interval() -> None:
    loop = Loop()
    for _ in range(300):
        loop.add(50)
        loop.run(0.1)
    loop.run(120)
    for interval in (120.0, 30.0, 60.0, 30.0):
        loop.most = 0
        loop.heartbeat.set_interval(interval)
        loop.run(2 * interval)
        assert loop.most <= 2 * -(-15_000 // 128) * 8, interval


@pytest.mark.parametrize("interval", [30.0, 120.0])
def test_idle_ones_are_found_at_any_interval(interval: float) -> None:
    loop = Loop(idle=60.0)
    loop.add()
    loop.heartbeat.set_interval(interval)
    loop.run(100)
    assert 60 < loop.idle[0] - 1000 < 60 + 60 / 4 + 2


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.5, 2.0, 10.0, 40.0]),
            st.sampled_from([30.0, 45.0, 60.0, 120.0]),
            st.sampled_from([0.0, 0.0, 3.0, 500.0]),
        ),
        max_size=20,
    )
)
def test_nobody_who_answers_dies_and_nobody_is_forgotten(
    steps: list[tuple[float, float, float]],
) -> None:
    loop = Loop()
    peers: list[Peer] = []
    for seconds, interval, stall in steps:
        peers += loop.add(3)
        loop.run(seconds)
        loop.now += stall
        loop.heartbeat.set_interval(interval)
        peers += loop.add()
    assert len(loop.heartbeat) == len(peers)
    before = [len(peer.pinged) for peer in peers]
    loop.run(200)
    assert not loop.dead
    assert all(len(peer.pinged) > count for peer, count in zip(peers, before, strict=True))
    for peer in peers:
        loop.heartbeat.remove(peer)
    assert len(loop.heartbeat) == 0


class TestApply:
    """Settings that change, not only by the zone."""

    @pytest.mark.parametrize("before", [0.1, 1.0, 30.0, 86_400.0])
    @pytest.mark.parametrize("after", [0.1, 1.0, 5.0, 30.0, 300.0])
    def test_any_interval_may_follow_any_other(self, before: float, after: float) -> None:
        loop = Loop(interval=before)
        (old,) = loop.add()
        loop.run(3)
        loop.heartbeat.apply(after, 10.0, 0.0)
        (new,) = loop.add()
        loop.run(4 * after + 3)
        slack = after / 128 + 2 * loop.heartbeat.period
        assert new.pinged[0] - (new.last_active + after) == pytest.approx(0.0, abs=slack)
        for peer in (old, new):
            assert gaps(peer)[-2:] == pytest.approx([after] * 2, abs=slack)
        assert not loop.dead

    def test_a_peer_that_is_added_before_the_next_tick_is_not_pinged_early(self) -> None:
        loop = Loop(interval=30.0)
        loop.run(1.0)
        loop.heartbeat.apply(0.1, 10.0, 0.0)
        loop.now += 0.06
        (peer,) = loop.add()
        loop.run(1.0)
        assert 0.1 <= peer.pinged[0] - peer.last_active <= 0.1 + 2 * loop.heartbeat.period

    @pytest.mark.parametrize(("before", "after"), [(0.1, 60.0), (1.0, 30.0), (60.0, 2.0)])
    def test_pings_stay_spread_out_at_any_interval(self, before: float, after: float) -> None:
        loop = Loop(interval=before)
        loop.run(1.0)
        loop.heartbeat.apply(after, 10.0, 0.0)
        for _ in range(100):
            loop.add(60)
            loop.run(after / 100)
        loop.most = 0
        loop.run(2 * after)
        ticks = after / loop.heartbeat.period
        assert loop.most <= max(128, 4 * 6000 / ticks + 60)

    @pytest.mark.parametrize("timeout", [2.0, 25.0])
    def test_another_timeout_counts_from_the_next_ping_on(self, timeout: float) -> None:
        loop = Loop(interval=30.0, timeout=10.0)
        loop.add()
        loop.run(31)  # pinged and alive
        loop.heartbeat.apply(30.0, timeout, 0.0)
        loop.run(29 + timeout + 3, answers=False)
        (dead,) = loop.dead
        assert dead - 1000 == pytest.approx(60 + timeout, abs=1.5)

    @pytest.mark.parametrize("timeout", [2.0, 25.0])
    def test_a_peer_that_was_pinged_keeps_its_deadline(self, timeout: float) -> None:
        loop = Loop(interval=30.0, timeout=10.0)
        loop.add()
        loop.run(31, answers=False)
        loop.heartbeat.apply(30.0, timeout, 0.0)
        loop.run(20, answers=False)
        (dead,) = loop.dead
        assert dead - 1000 == pytest.approx(40, abs=1.5)

    @pytest.mark.parametrize(
        ("before", "after", "found"), [(0.0, 60.0, 60), (300.0, 60.0, 60), (60.0, 0.0, None)]
    )
    def test_another_idle_timeout_counts_from_the_last_message(
        self, before: float, after: float, found: float | None
    ) -> None:
        loop = Loop(idle=before)
        loop.add()
        loop.run(40)
        loop.heartbeat.apply(30.0, 10.0, after)
        loop.run(60)
        if found is None:
            assert not loop.idle
        else:
            assert found < loop.idle[0] - 1000 < found + found / 4 + 2

    def test_a_stall_at_the_change_kills_no_peer_that_answers(self) -> None:
        loop = Loop(interval=30.0, timeout=10.0)
        loop.add(300)
        loop.run(31)
        loop.now += 300
        loop.heartbeat.apply(5.0, 2.0, 60.0)
        loop.run(50)
        assert not loop.dead
        assert len(loop.heartbeat) == 300
