from __future__ import annotations

from tidegate.sim.clock import Clock


def test_clock_calls_in_the_order_of_time_and_then_of_asking() -> None:
    clock = Clock()
    seen: list[object] = []
    clock.at(2.0, seen.append, "b")
    clock.at(1.0, seen.append, "a")
    clock.at(2.0, seen.append, "c")
    clock.run(5.0)
    assert seen == ["a", "b", "c"]
    assert clock.now == 5.0


def test_clock_what_is_due_later_waits_for_the_next_run() -> None:
    clock = Clock()
    seen: list[object] = []
    clock.at(6.0, seen.append, "late")
    clock.run(5.0)
    assert not seen
    clock.run(6.0)
    assert seen == ["late"]


def test_clock_a_time_that_is_past_is_now() -> None:
    clock = Clock()
    seen: list[object] = []
    clock.run(3.0)
    clock.at(1.0, lambda: seen.append(clock.now))
    clock.run(4.0)
    assert seen == [3.0]


def test_clock_a_call_may_ask_for_more() -> None:
    clock = Clock()
    seen: list[object] = []

    def again() -> None:
        seen.append(clock.now)
        clock.after(1.0, again)

    clock.after(1.0, again)
    clock.run(3.5)
    assert seen == [1.0, 2.0, 3.0]
