"""Both pollers under real loops: errors, time, and who comes next."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from typing import Any

import pytest

from tests.unit.engine.polling import Clock, Errors, Pair, turn_until, watch
from tidegate.engine.poller import READ, TURN_SECONDS, WRITE, Poller


def test_the_loop_turns_the_poller(poller: Poller, pairs: Pair, loop: AbstractEventLoop) -> None:
    mine, peer = pairs()
    entry = watch(poller, mine)
    for count in (1, 2, 3):
        peer.send(b"x")
        turn_until(loop, lambda count=count: len(entry.calls) == count)  # type: ignore[misc]
    assert entry.calls == ["read"] * 3


def test_waking(poller: Poller, loop: AbstractEventLoop) -> None:
    done: list[int] = []
    poller.ready.append(lambda: done.append(1))
    poller.wake()
    poller.wake()
    turn_until(loop, lambda: done)
    assert done == [1]


def test_a_closed_poller_is_turned_no_more(
    poller: Poller, pairs: Pair, loop: AbstractEventLoop
) -> None:
    mine, peer = pairs()
    entry = watch(poller, mine)
    peer.send(b"x")
    poller.wake()
    poller.close()
    poller.close()
    loop.run_until_complete(asyncio.sleep(0))
    assert entry.calls == []


# Errors of ours.


@pytest.mark.parametrize("events", [READ, WRITE])
def test_an_entry_that_raises_ends_alone(
    poller: Poller, pairs: Pair, loop: AbstractEventLoop, errors: Errors, events: int
) -> None:
    entries = []
    for _ in range(3):
        mine, peer = pairs()
        entries.append(watch(poller, mine))
        poller.modify(mine.fileno(), events)
        peer.send(b"x")
    error = RuntimeError("ours")

    def fail() -> None:
        poller.forget(entries[1].own.fileno())
        entries[1].own.close()
        raise error

    entries[1].do = fail
    turn_until(loop, lambda: all(entry.calls for entry in entries))
    assert [entry.crashes for entry in entries] == [0, 1, 0]
    assert errors == [error]
    errors.clear()


def test_work_that_raises_does_not_stop_what_is_behind_it(
    poller: Poller, loop: AbstractEventLoop, errors: Errors
) -> None:
    done: list[int] = []
    error = RuntimeError("ours")

    def fail() -> None:
        raise error

    poller.ready.extend([fail, lambda: done.append(1)])
    poller.wake()
    turn_until(loop, lambda: done)
    assert errors == [error]
    errors.clear()


# Time.


def test_a_turn_ends_in_time_and_nobody_starves(poller: Poller, pairs: Pair, clock: Clock) -> None:
    """Everyone is ready all the time, and is served once before anyone is served again."""
    calls: list[Any] = []
    count = 40
    for number in range(count):
        mine, _ = pairs()
        entry = watch(poller, mine, calls)
        poller.modify(mine.fileno(), WRITE)
        entry.do = lambda number=number: calls.__setitem__(-1, number)  # type: ignore[misc]
    clock.tick = TURN_SECONDS / 10
    while len(calls) < 5 * count:
        before = len(calls)
        poller.turn()
        assert 1 <= len(calls) - before <= 10
    for start in range(0, 5 * count, count):
        assert len(set(calls[start : start + count])) == count


def test_a_burst_does_not_keep_a_late_one_waiting(
    poller: Poller, pairs: Pair, clock: Clock
) -> None:
    """Who becomes ready while a long batch is served comes right behind that batch."""
    calls: list[Any] = []
    for _ in range(20):
        mine, _ = pairs()
        poller.modify(watch(poller, mine, calls).own.fileno(), WRITE)
    late, peer = pairs()
    watch(poller, late, calls)
    clock.tick = TURN_SECONDS / 5
    poller.turn()
    peer.send(b"x")
    while "read" not in calls:
        poller.turn()
    assert 20 <= calls.index("read") <= 2 * 20


def test_work_that_is_left_over_is_bounded_too(
    poller: Poller, loop: AbstractEventLoop, clock: Clock
) -> None:
    done: list[int] = []

    def again() -> None:
        done.append(1)
        poller.ready.append(again)

    poller.ready.extend([again] * 3)
    poller.turn()
    assert len(done) == 3
    clock.tick = TURN_SECONDS
    poller.turn()
    assert len(done) == 4
    clock.tick = 0.0
    # A turn follows by itself as long as something is left.
    turn_until(loop, lambda: len(done) > 20)
    poller.ready.clear()


def test_background_work(poller: Poller, loop: AbstractEventLoop, clock: Clock) -> None:
    """It comes last, gets time of its own, and is called again while it asks for that."""
    order: list[str] = []
    deadlines: list[float] = []

    def work(until: float) -> bool:
        order.append("background")
        deadlines.append(until)
        return len(deadlines) < 3

    poller._background = work
    poller.ready.append(lambda: order.append("ready"))
    poller.turn()
    assert order == ["ready", "background"]
    assert deadlines == [clock.now + TURN_SECONDS]
    turn_until(loop, lambda: len(deadlines) == 3)
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    assert len(deadlines) == 3


# Attempts.


def test_attempts_come_last_and_then_the_others_again(
    poller: Poller, pairs: Pair, clock: Clock
) -> None:
    """Between two attempts, connections are served and what was said goes out."""
    order: list[str] = []
    mine, peer = pairs()
    watch(poller, mine, order)
    door, queue = pairs()
    listener = watch(poller, door, [])
    queue.send(b"xxx")

    def let_in() -> None:
        order.append("attempt")
        door.recv(1)
        peer.send(b"x")  # said while the attempt was decided about

    listener.reads = False
    listener.do = lambda: poller.attempts.append(let_in)

    def work(until: float) -> bool:
        order.append("out")
        return False

    poller._background = work
    poller.turn()
    assert order == ["out", *["attempt", "read", "out"] * 3]


def test_attempts_end_with_the_turn(
    poller: Poller, loop: AbstractEventLoop, pairs: Pair, clock: Clock
) -> None:
    door, queue = pairs()
    listener = watch(poller, door)
    listener.reads = False
    queue.send(b"x")
    in_turn: list[int] = [0]

    def let_in() -> None:
        in_turn[-1] += 1
        clock.now += 0.3 * TURN_SECONDS

    listener.do = lambda: poller.attempts.append(let_in)
    for _ in range(3):
        poller.turn()
        in_turn.append(0)
    assert in_turn == [4, 4, 4, 0]


def test_an_error_in_letting_in(
    poller: Poller, loop: AbstractEventLoop, errors: Errors, clock: Clock
) -> None:
    error = RuntimeError("ours")
    done: list[int] = []

    def fail() -> None:
        raise error

    poller.attempts += [fail, lambda: done.append(1)]
    poller.turn()
    assert errors == [error]
    assert (done, poller.attempts) == ([1], [])
    errors.clear()


@pytest.mark.parametrize("ready", [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_whether_others_wait(poller: Poller, pairs: Pair, ready: tuple[int, ...]) -> None:
    """And asking takes nothing."""
    entries = []
    for number in range(3):
        mine, peer = pairs()
        entries.append(watch(poller, mine))
        if number in ready:
            peer.send(b"x")
    assert poller.others_wait(entries[0].own.fileno()) == bool(set(ready) - {0})
    poller.turn()
    assert [len(entry.calls) for entry in entries] == [int(n in ready) for n in range(3)]
