"""The drain of a node, on a virtual clock: which connections are told and closed, and when."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tidegate.core.codes import Close, Refusal, close_text
from tidegate.core.timing.deadlines import Deadlines
from tidegate.engine.states import Admission
from tidegate.node import drain as module
from tidegate.node.drain import Drain

WINDOW, GRACE = 30.0, 5.0


class Clock:
    """Time that passes in sleeps; `jumps` are added to them, one each."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.jumps: list[float] = []
        self.then: Callable[[], None] = lambda: None

    async def sleep(self, seconds: float) -> None:
        if seconds:
            self.now += seconds + (self.jumps.pop(0) if self.jumps else 0.0)
            self.then()


class Peer:
    """As much of a connection as a drain sees. It answers a close `answers` seconds later."""

    def __init__(self, clock: Clock, answers: float = 0.0, buffered: int = 0) -> None:
        self.clock = clock
        self.admission = Admission.ADMITTED
        self.rooms: tuple[str, ...] = ()
        self.buffered = buffered
        self.answers = answers
        self.open = True
        self.told: list[tuple[float, float]] = []
        self.ended: tuple[float, int, str, str] | None = None
        self.left = False

    def end(self, reason: Refusal | Close, retry_after: float | None = None) -> None:
        assert self.open
        self.open = False
        delay = reason.retry_after if retry_after is None else retry_after
        self.ended = (self.clock.now, reason.code, close_text(reason, delay), reason.name)

    def leave(self) -> None:
        self.open, self.left = False, True

    @property
    def closed(self) -> bool:
        return self.left or (
            self.ended is not None and self.clock.now >= self.ended[0] + self.answers
        )


class Fanout:
    """Holds what is to happen after the frames of a room."""

    def __init__(self) -> None:
        self.busy: set[str] = set()
        self.held: list[Callable[[], None]] = []

    def when_sent(self, rooms: Iterable[str], action: Callable[[], None]) -> None:
        if self.busy.isdisjoint(rooms):
            action()
        else:
            self.held.append(action)


class Scene:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.peers: list[Peer] = []
        self.fanout = Fanout()
        self.tasks: set[str] = set()
        self.closing: Deadlines[Any] = Deadlines()
        self.engine: Any = self
        self.shared = SimpleNamespace(fanout=self.fanout, closing=self.closing)

    @property
    def at_work(self) -> bool:
        return bool(self.tasks)

    def connections(self) -> Iterator[Peer]:
        return iter(self.peers)

    def add(self, count: int, **options: Any) -> list[Peer]:
        more = [Peer(self.clock, **options) for _ in range(count)]
        self.peers += more
        return more

    def drain(self, window: float = WINDOW, grace: float = GRACE) -> Drain:
        return Drain(self.engine, window, grace, self._tell)

    def run(self, window: float = WINDOW, grace: float = GRACE) -> Drain:
        drain = self.drain(window, grace)
        asyncio.run(drain.run())
        return drain

    def _tell(self, peer: Any, delay: float) -> None:
        peer.told.append((self.clock.now, delay))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", lambda: clock.now)
    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=clock.sleep))
    return clock


@pytest.fixture
def scene(clock: Clock) -> Scene:
    return Scene(clock)


def closes(peers: list[Peer]) -> list[float]:
    return [peer.ended[0] for peer in peers if peer.ended is not None]


def busiest_second(times: list[float]) -> int:
    return max(sum(start <= other < start + 1.0 for other in times) for start in times)


def test_drain_tells_every_connection_once_and_closes_it_at_the_time_given(scene: Scene) -> None:
    peers = scene.add(2000)
    drain = scene.run()
    assert (drain.total, drain.told, drain.closed, drain.open) == (2000, 2000, 2000, 0)
    for peer in peers:
        ((told, delay),) = peer.told
        assert peer.ended is not None
        at, code, reason, cause = peer.ended
        assert told < at
        assert (code, reason, cause) == (1012, '{"error":"drained","retryAfter":0}', "drained")
        # The delay counts from the start; the notices take a second.
        assert at - 1000.0 == pytest.approx(delay, abs=0.05)
    notices = [peer.told[0][0] for peer in peers]
    assert max(notices) - min(notices) > 0.9
    assert 28.0 < max(closes(peers)) - 1000.0 < WINDOW


@pytest.mark.parametrize("jumps", [[], [0.3] * 50, [0.0] * 200 + [3.0]])
def test_drain_closes_no_more_than_its_share_in_any_second(
    scene: Scene, jumps: list[float]
) -> None:
    peers = scene.add(900)
    scene.clock.jumps = jumps
    scene.run()
    assert len(closes(peers)) == 900
    assert busiest_second(closes(peers)) <= math.ceil(1.2 * 900 / WINDOW)


def test_drain_without_a_window_tells_and_closes_all_at_once(scene: Scene) -> None:
    peers = scene.add(1000)
    scene.run(window=0.0)
    assert {peer.told[0] for peer in peers} == {(1000.0, 5.0)}
    assert {peer.ended for peer in peers} == {
        (1000.0, 1012, '{"error":"drained","retryAfter":5}', "drained")
    }


def test_drain_of_no_connections_is_over_at_once(scene: Scene) -> None:
    drain = scene.run()
    assert scene.clock.now == 1000.0
    assert drain.over


def test_drain_whose_connections_have_left_is_over_at_once(scene: Scene) -> None:
    peers = scene.add(300)

    def leave() -> None:
        if scene.clock.now > 1004.0:
            for peer in peers:
                peer.leave()

    scene.clock.then = leave
    drain = scene.run()
    assert 1004.0 < scene.clock.now < 1004.1
    assert drain.open == 0
    assert drain.closed < 60
    # Nobody who has left is told or closed any more.
    assert len(closes(peers)) == drain.closed


def test_drain_leaves_those_that_do_not_answer_at_the_deadline(scene: Scene) -> None:
    scene.add(10)
    (deaf,) = scene.add(1, answers=math.inf)
    drain = scene.run()
    assert drain.open == 1
    assert deaf.ended is not None
    assert scene.clock.now == pytest.approx(1000.0 + WINDOW + GRACE, abs=0.03)


def test_drain_waits_for_handlers_that_run(scene: Scene) -> None:
    scene.add(1)
    scene.tasks.add("a handler")

    def done() -> None:
        if scene.clock.now > 1032.0:
            scene.tasks.clear()

    scene.clock.then = done
    scene.run()
    assert 1032.0 < scene.clock.now < 1032.1


def test_drain_passes_by_connections_that_wait_to_be_admitted(scene: Scene) -> None:
    scene.add(1)
    (waiting,) = scene.add(1)
    waiting.admission = Admission.WAITING
    drain = scene.run()
    assert drain.total == 1
    assert waiting.told == []
    assert waiting.ended is None


def test_drain_closes_a_member_after_what_was_published_before(scene: Scene) -> None:
    member, other = scene.add(2)
    member.rooms, other.rooms = ("busy",), ("quiet",)
    scene.fanout.busy = {"busy"}

    def flush() -> None:
        if scene.clock.now > 1020.0:
            scene.fanout.busy.clear()
            while scene.fanout.held:
                scene.fanout.held.pop()()

    scene.clock.then = flush
    scene.run(window=10.0, grace=20.0)
    assert other.ended is not None
    assert other.ended[0] < 1010.0
    assert member.ended is not None
    assert 1020.0 < member.ended[0] < 1020.1


def test_drain_does_not_close_a_member_that_left_meanwhile(scene: Scene) -> None:
    (member,) = scene.add(1)
    member.rooms = ("busy",)
    scene.fanout.busy = {"busy"}

    def leave() -> None:
        if scene.fanout.held:
            member.leave()
            scene.fanout.held.pop()()

    scene.clock.then = leave
    scene.run()
    assert member.ended is None


def test_drain_gives_a_slow_peer_until_the_deadline_to_take_what_waits(scene: Scene) -> None:
    (slow,) = scene.add(1, answers=math.inf, buffered=100_000)
    (quick,) = scene.add(1)
    drain = scene.run()
    assert slow in scene.closing
    assert quick not in scene.closing
    assert scene.closing.next() == drain.deadline == 1000.0 + WINDOW + GRACE


def test_drain_may_be_ended_before(scene: Scene) -> None:
    peers = scene.add(100)
    drain = scene.drain()

    def end() -> None:
        drain.over = scene.clock.now > 1010.0

    scene.clock.then = end
    asyncio.run(drain.run())
    assert 1010.0 < scene.clock.now < 1010.1
    assert 0 < len(closes(peers)) < 50


def test_drain_shows_its_progress(scene: Scene) -> None:
    scene.add(100)
    drain = scene.drain()
    expected: dict[str, object] = {
        "draining": True,
        "over": False,
        "total": 100,
        "told": 0,
        "closed": 0,
        "open": 100,
        "window": 30.0,
        "elapsed": 0.0,
        "left": 35.0,
    }
    assert drain.progress() == expected
    asyncio.run(drain.run())
    after = drain.progress()
    assert after["over"] is True
    assert (after["told"], after["closed"], after["open"]) == (100, 100, 0)
    assert after["elapsed"] == pytest.approx(28.7, abs=0.5)
