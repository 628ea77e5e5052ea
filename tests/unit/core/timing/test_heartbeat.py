from __future__ import annotations

import pytest

from tidegate.core.timing.heartbeat import Beat, Heartbeat


class Peer:
    __slots__ = ("added", "answers", "beat", "last_active", "last_seen", "pinged")

    def __init__(self, now: float = 0.0, *, answers: bool = True) -> None:
        self.added = self.last_seen = self.last_active = now
        self.beat = -1
        self.answers = answers
        self.pinged: list[float] = []


class Loop:
    """A virtual loop that ticks on time, and peers that answer a ping with the next tick."""

    def __init__(
        self, interval: float = 30.0, timeout: float = 10.0, idle_timeout: float = 0.0
    ) -> None:
        self.now = 1000.0
        self.heartbeat = Heartbeat[Peer](interval, timeout, idle_timeout, self.now)
        self.dead: list[tuple[float, Peer]] = []
        self.idle: list[tuple[float, Peer]] = []
        self.unanswered: list[Peer] = []
        self.most_pings = 0

    def add(self, count: int = 1, *, answers: bool = True) -> list[Peer]:
        peers = [Peer(self.now, answers=answers) for _ in range(count)]
        for peer in peers:
            self.heartbeat.add(peer, self.now)
        return peers

    def step(self, seconds: float | None = None) -> Beat[Peer]:
        """Let time pass, tick, and only then read the answers: the worst order for the peers."""
        self.now += self.heartbeat.period if seconds is None else seconds
        beat = self.heartbeat.tick(self.now)
        for peer in self.unanswered:
            peer.last_seen = self.now
        self.unanswered = [peer for peer in beat.pings if peer.answers]
        for peer in beat.pings:
            peer.pinged.append(self.now)
        self.dead += [(self.now, peer) for peer in beat.dead]
        self.idle += [(self.now, peer) for peer in beat.idle]
        self.most_pings = max(self.most_pings, len(beat.pings))
        return beat

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.step()


@pytest.mark.parametrize(
    ("interval", "period"), [(30.0, 30 / 128), (0.1, 0.05), (1.0, 0.05), (600.0, 1.0)]
)
def test_period(interval: float, period: float) -> None:
    assert Heartbeat[Peer](interval, 10.0, 0.0, 0.0).period == pytest.approx(period)


TIMES = pytest.mark.parametrize(
    ("interval", "timeout"),
    [(30.0, 10.0), (0.1, 0.1), (1.0, 5.0), (5.0, 1.0), (128.0, 10.0), (600.0, 30.0), (0.33, 7.0)],
)


@TIMES
def test_pings_come_every_interval(interval: float, timeout: float) -> None:
    loop = Loop(interval, timeout)
    for _ in range(7):
        loop.step(loop.heartbeat.period / 7)
        (peer,) = loop.add()
        loop.run(5 * interval + 3)
        gaps = [b - a for a, b in zip([peer.added, *peer.pinged], peer.pinged, strict=False)]
        slack = max(interval / 128, loop.heartbeat.period) + loop.heartbeat.period + 1e-6
        assert gaps[0] >= interval - 1e-6
        assert all(abs(gap - interval) <= slack for gap in gaps)
        assert len(peer.pinged) >= 4
    assert loop.dead == []


@TIMES
def test_no_ping_comes_before_its_time(interval: float, timeout: float) -> None:
    loop = Loop(interval, timeout)
    period = loop.heartbeat.period
    loop.step(period * 0.05)
    peers = [Peer(loop.now + period * tenth / 10) for tenth in range(18)]
    for peer in peers:
        loop.heartbeat.add(peer, peer.added)
    # A late tick, and early ones from then on.
    loop.step(period * 1.8)
    loop.step(period * 0.2)
    loop.run(2 * interval)
    assert all(peer.pinged[0] - peer.added >= interval - 1e-6 for peer in peers)


@TIMES
def test_a_silent_peer_is_dead_after_interval_and_timeout(interval: float, timeout: float) -> None:
    loop = Loop(interval, timeout)
    slack = max(interval / 128, loop.heartbeat.period) + 2 * loop.heartbeat.period
    for _ in range(5):
        loop.step(loop.heartbeat.period / 3)
        (peer,) = loop.add(answers=False)
        loop.run(interval + timeout + 2 * slack)
        ((when, dead),) = loop.dead
        assert dead is peer
        assert interval + timeout - 1e-6 <= when - peer.added <= interval + timeout + slack
        assert len(loop.heartbeat) == 0
        loop.dead.clear()


def test_a_peer_that_stops_answering_is_dead_after_its_next_ping() -> None:
    loop = Loop()
    (peer,) = loop.add()
    loop.run(95)
    peer.answers = False
    loop.run(30 + 10 + 1)
    assert [dead for _, dead in loop.dead] == [peer]
    assert loop.dead[0][0] - peer.pinged[-1] == pytest.approx(10.0, abs=0.5)


def test_any_frame_is_life() -> None:
    loop = Loop()
    (peer,) = loop.add(answers=False)
    for _ in range(300):
        loop.run(1.0)
        peer.last_seen = loop.now
    assert loop.dead == []
    assert len(peer.pinged) >= 9


def test_life_before_the_ping_does_not_count() -> None:
    loop = Loop()
    (peer,) = loop.add(answers=False)
    while not peer.pinged:
        peer.last_seen = loop.now
        loop.step()
    loop.run(10.5)
    assert [dead for _, dead in loop.dead] == [peer]


@pytest.mark.parametrize("silence", [0.0, 29.0, 31.0, 39.9])
def test_a_removed_peer_is_never_reported(silence: float) -> None:
    loop = Loop(idle_timeout=20.0)
    gone, stays = loop.add(2, answers=False)
    loop.run(silence)
    loop.idle.clear()
    pings = len(gone.pinged)
    loop.heartbeat.remove(gone)
    loop.heartbeat.remove(gone)
    assert (gone.beat, len(loop.heartbeat)) == (-1, 1)
    loop.run(100)
    assert len(gone.pinged) == pings
    assert [dead for _, dead in loop.dead] == [stays]
    assert gone not in [peer for _, peer in loop.idle]


def test_a_dead_peer_is_reported_once_though_pinged_twice() -> None:
    loop = Loop(interval=1.0, timeout=5.0)
    (peer,) = loop.add(answers=False)
    loop.run(30)
    assert [dead for _, dead in loop.dead] == [peer]
    assert len(peer.pinged) >= 5


def test_a_dead_peer_may_be_given_another_chance() -> None:
    loop = Loop()
    (peer,) = loop.add(answers=False)
    loop.run(41)
    assert [dead for _, dead in loop.dead] == [peer]
    peer.last_seen, peer.answers = loop.now, True
    loop.heartbeat.add(peer, loop.now)
    loop.run(300)
    assert len(loop.dead) == len(loop.heartbeat) == 1


class TestBursts:
    def test_are_spread(self) -> None:
        loop = Loop()
        peers = []
        for _ in range(4):
            peers += loop.add(3750)
            loop.step()
        loop.run(31)
        # One round of the wheel with twice the room of an even one.
        assert 0 < loop.most_pings <= 2 * 2 * 15_000 // 128 + 2
        loop.run(120)
        assert loop.dead == []
        assert all(len(peer.pinged) in (4, 5) for peer in peers)
        for peer in peers:
            first = peer.pinged[0] - peer.added
            assert 30 - 1e-6 <= first <= 45 + 1
            gaps = [b - a for a, b in zip(peer.pinged, peer.pinged[1:], strict=False)]
            assert all(abs(gap - 30) < 1.5 for gap in gaps)

    def test_stay_spread(self) -> None:
        loop = Loop()
        loop.add(10_000)
        loop.run(60)
        pings = [len(loop.step().pings) for _ in range(128)]
        assert sum(pings) == pytest.approx(10_000, rel=0.05)
        assert max(pings) <= 2 * 2 * 10_000 // 128 + 2

    def test_a_few_go_together(self) -> None:
        loop = Loop()
        loop.add(128)
        loop.run(31)
        assert loop.most_pings == 128

    def test_are_pinged_in_time_by_a_loop_that_ticks_seldom(self) -> None:
        loop = Loop()
        peers = []
        for _ in range(128):
            peers += loop.add(50)
            loop.step()
        for _ in range(4 * 32):
            loop.step(4 * loop.heartbeat.period)
        for peer in peers:
            gaps = [b - a for a, b in zip(peer.pinged, peer.pinged[1:], strict=False)]
            assert len(gaps) >= 3
            assert all(abs(gap - 30) <= 3 for gap in gaps)

    def test_silent_ones_are_dead_within_the_bound(self) -> None:
        loop = Loop()
        peers = loop.add(12_000, answers=False)
        loop.run(1.5 * 30 + 10 + 2)
        assert {peer for _, peer in loop.dead} == set(peers)
        assert min(when for when, _ in loop.dead) >= 1000 + 30 + 10

    def test_of_removals_leave_nothing_behind(self) -> None:
        loop = Loop()
        peers = loop.add(5000)
        loop.run(32)
        for peer in peers:
            loop.heartbeat.remove(peer)
        loop.run(60)
        heartbeat = loop.heartbeat
        assert len(heartbeat) == 0
        assert not any(heartbeat._wheel)
        assert not heartbeat._overdue
        assert not heartbeat._batches


class TestStalls:
    @pytest.mark.parametrize("stall", [0.9, 1.1, 5.0, 12.0, 60.0, 3600.0, 86_400.0])
    @pytest.mark.parametrize("start", [10.0, 29.9, 30.3, 35.0, 39.9, 41.0])
    def test_kill_nobody_who_answers(self, stall: float, start: float) -> None:
        loop = Loop()
        peers = loop.add(300)
        loop.run(start)
        loop.step(stall)
        loop.run(100)
        assert loop.dead == []
        assert all(len(peer.pinged) >= 3 for peer in peers)

    def test_one_after_another_kill_nobody_who_answers(self) -> None:
        loop = Loop()
        loop.add(300)
        for _ in range(200):
            loop.step(7.0)
            loop.step()
        for _ in range(200):
            loop.step(1.2)
        assert loop.dead == []

    @pytest.mark.parametrize("stall", [0.3, 0.45, 0.55, 0.9, 1.0, 1.5])
    def test_are_noticed_by_the_measure_of_a_short_timeout(self, stall: float) -> None:
        loop = Loop(interval=5.0, timeout=1.0)
        (peer,) = loop.add()
        for _ in range(4):
            while not loop.step().pings:
                assert loop.dead == []
            loop.step(stall)
            loop.step(stall)
        assert len(peer.pinged) == 4
        assert loop.dead == []

    def test_move_the_deadline_of_the_silent_by_their_length(self) -> None:
        loop = Loop()
        loop.add(answers=False)
        loop.run(33)
        loop.step(60.0)
        loop.run(20)
        ((when, _),) = loop.dead
        assert when - 1000 == pytest.approx(30 + 10 + 60, abs=1.0)

    def test_do_not_bunch_the_pings(self) -> None:
        loop = Loop()
        for _ in range(128):
            loop.add(100)
            loop.step()
        loop.run(60)
        loop.most_pings = 0
        loop.step(600.0)
        loop.run(60)
        assert loop.most_pings <= 2 * (2 * 12_800 // 128)

    @pytest.mark.parametrize("stall", [500.0, 507.0, 515.0, 522.0])
    def test_that_no_tick_has_seen_do_not_misplace_a_new_peer(self, stall: float) -> None:
        loop = Loop()
        loop.now += stall
        (peer,) = loop.add()
        loop.step(0.0)
        loop.run(32)
        (pinged,) = peer.pinged
        assert 30 <= pinged - peer.added <= 31

    def test_are_not_idleness(self) -> None:
        loop = Loop(idle_timeout=60.0)
        (peer,) = loop.add()
        loop.run(30)
        loop.step(3600.0)
        loop.run(25)
        assert loop.idle == []
        loop.run(35)
        assert peer in [idle for _, idle in loop.idle]
        assert loop.dead == []

    def test_are_forgiven_once(self) -> None:
        loop = Loop(idle_timeout=60.0)
        loop.step(3600.0)
        loop.add()
        loop.run(80)
        assert len(loop.idle) >= 1
        loop.run(60)
        assert not loop.heartbeat._stalls


class TestIdle:
    @pytest.mark.parametrize("idle_timeout", [0.5, 3.0, 20.0, 60.0, 300.0])
    @pytest.mark.parametrize("interval", [1.0, 30.0, 300.0])
    def test_is_found_in_time(self, idle_timeout: float, interval: float) -> None:
        loop = Loop(interval=interval, idle_timeout=idle_timeout)
        for _ in range(4):
            loop.step(loop.heartbeat.period * 0.7)
            (peer,) = loop.add()
            loop.run(1.6 * idle_timeout + 3)
            assert {idle for _, idle in loop.idle} == {peer}
            assert loop.idle[0][0] - peer.added > idle_timeout
            loop.heartbeat.remove(peer)
            loop.idle.clear()

    def test_is_found_wherever_the_peer_is(self) -> None:
        loop = Loop(idle_timeout=300.0)
        for _ in range(130):
            loop.add()
            loop.step()
        loop.run(300 + 30 + 30)
        found: dict[Peer, float] = {}
        for when, peer in loop.idle:
            found.setdefault(peer, when - peer.added)
        assert len(found) == 130
        assert max(found.values()) <= 300 + 15 + 1

    def test_is_found_in_a_burst(self) -> None:
        loop = Loop(interval=10.0, idle_timeout=60.0)
        peers = loop.add(5000)
        loop.run(60)
        assert loop.idle == []
        loop.run(60 * 0.5 + 5)
        assert {idle for _, idle in loop.idle} == set(peers)

    def test_ends_with_a_message(self) -> None:
        loop = Loop(idle_timeout=10.0)
        (peer,) = loop.add()
        for _ in range(20):
            loop.run(9.0)
            peer.last_active = loop.now
        assert loop.idle == []

    def test_is_no_concern_when_off(self) -> None:
        loop = Loop(idle_timeout=0.0)
        loop.add()
        loop.run(1000)
        assert loop.idle == []
