"""The heartbeat beside peers that answer, peers that do not, and stalls."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.core.timing.test_heartbeat import Peer
from tidegate.core.timing.heartbeat import Heartbeat

INTERVAL, TIMEOUT = 8.0, 4.0
LATEST = 1.5 * INTERVAL + TIMEOUT + 1.0


class HeartbeatMachine(RuleBasedStateMachine):
    """Peers that answer within a quarter of the timeout, peers that never do, and stalls.

    Answers that come while the loop stands still are read after the tick that ends the stall.
    """

    @initialize(idle_timeout=st.sampled_from([0.0, 5.0]))
    def start(self, idle_timeout: float) -> None:
        self.now = 50.0
        self.stalled = 0.0
        self.heartbeat = Heartbeat[Peer](INTERVAL, TIMEOUT, idle_timeout, self.now)
        self.watched: dict[Peer, float] = {}
        self.answers: dict[float, list[Peer]] = defaultdict(list)
        self.since = 0.0

    @property
    def clock(self) -> float:
        return self.now - self.stalled

    @rule(count=st.integers(1, 400), answers=st.booleans())
    def add(self, count: int, answers: bool) -> None:
        for _ in range(count):
            peer = Peer(self.now, answers=answers)
            self.watched[peer] = self.clock
            self.heartbeat.add(peer, self.now)

    @rule(share=st.integers(1, 5))
    def remove(self, share: int) -> None:
        for peer in list(self.watched)[::share]:
            self.heartbeat.remove(peer)
            del self.watched[peer]

    @rule(ticks=st.integers(1, 200), round_trip=st.floats(0.0, TIMEOUT / 4))
    def run_on_time(self, ticks: int, round_trip: float) -> None:
        for _ in range(ticks):
            self.tick(self.heartbeat.period, round_trip)

    @rule(length=st.floats(0.1, 1.0), times=st.integers(1, 5))
    def hiccup(self, length: float, times: int) -> None:
        for _ in range(times):
            self.tick(self.heartbeat.period + length * 0.99, 0.1)

    @rule(length=st.floats(1.01, 5000.0))
    def stall(self, length: float) -> None:
        self.stalled += length
        self.tick(self.heartbeat.period + length, 0.1)

    def tick(self, seconds: float, round_trip: float) -> None:
        clock_before = self.clock
        self.now += seconds
        beat = self.heartbeat.tick(self.now)
        for due in [due for due in self.answers if due <= self.now]:
            for peer in self.answers.pop(due):
                peer.last_seen = self.now
        assert max(Counter(beat.pings).values(), default=0) <= 1
        assert set(beat.pings) | set(beat.dead) | set(beat.idle) <= set(self.watched)
        even = 2 * len(self.watched) / 128 + 1
        steps = 1 + int((self.clock - clock_before + 1.1) / self.heartbeat.period)
        assert len(beat.pings) <= max(128, even) * steps
        for peer in beat.dead:
            assert not peer.answers
            assert self.clock - self.watched.pop(peer) >= INTERVAL + TIMEOUT - 1.2
        self.answers[self.now + round_trip] += [peer for peer in beat.pings if peer.answers]

    @invariant()
    def nobody_silent_lives_for_ever(self) -> None:
        if hasattr(self, "now"):
            for peer, added in self.watched.items():
                assert peer.answers or self.clock - added <= LATEST + 2.0

    @invariant()
    def the_count_is_right(self) -> None:
        if hasattr(self, "now"):
            assert len(self.heartbeat) == len(self.watched)
            assert all(peer.beat >= 0 for peer in self.watched)


TestHeartbeatMachine = HeartbeatMachine.TestCase
TestHeartbeatMachine.settings = settings(max_examples=15, stateful_step_count=25)
