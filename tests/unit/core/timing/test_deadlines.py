from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tidegate.core.timing.deadlines import Deadlines


def test_due_is_in_the_order_of_time_and_includes_now() -> None:
    deadlines = Deadlines[str]()
    for key, when in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        deadlines.set(key, when)
    assert deadlines.next() == 1.0
    assert deadlines.due(0.9) == []
    assert deadlines.due(2.0) == ["a", "b"]
    assert deadlines.due(2.0) == []
    assert deadlines.next() == 3.0


def test_iteration_gives_every_key_that_has_a_deadline() -> None:
    deadlines = Deadlines[str]()
    for key in "abcd":
        deadlines.set(key, 5.0)
    deadlines.set("a", 1.0)
    deadlines.discard("b")
    deadlines.due(1.0)
    assert sorted(deadlines) == ["c", "d"]


def test_set_replaces_in_both_directions() -> None:
    deadlines = Deadlines[str]()
    deadlines.set("later", 1.0)
    deadlines.set("later", 5.0)
    deadlines.set("sooner", 9.0)
    deadlines.set("sooner", 2.0)
    assert len(deadlines) == 2
    assert deadlines.due(4.0) == ["sooner"]
    assert deadlines.due(9.0) == ["later"]


def test_discard() -> None:
    deadlines = Deadlines[str]()
    deadlines.set("a", 1.0)
    deadlines.discard("a")
    deadlines.discard("never there")
    assert "a" not in deadlines
    assert deadlines.next() is None
    assert deadlines.due(9.0) == []


def test_equal_times_keep_their_order_and_keys_are_never_compared() -> None:
    deadlines = Deadlines[object]()
    keys = [object() for _ in range(9)]
    for key in keys:
        deadlines.set(key, 1.0)
    assert deadlines.due(1.0) == keys


def test_a_deadline_set_again_to_the_same_time_comes_once() -> None:
    deadlines = Deadlines[str]()
    for _ in range(5):
        deadlines.set("a", 1.0)
    assert deadlines.due(1.0) == ["a"]


def test_what_was_moved_or_dropped_does_not_pile_up() -> None:
    deadlines = Deadlines[int]()
    for step in range(20_000):
        deadlines.set(step % 10, float(step))
    assert len(deadlines._heap) < 200
    for step in range(20_000):
        deadlines.set(step, float(step))
        deadlines.discard(step)
    assert len(deadlines._heap) < 200


class DeadlinesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines[int]()
        self.model: dict[int, tuple[float, int]] = {}
        self.step = 0

    # One key in four is used often, so that many entries of the heap are stale.
    keys = st.integers(0, 200) | st.integers(0, 3)
    times = st.integers(0, 50).map(float)

    @rule(key=keys, when=times)
    def set(self, key: int, when: float) -> None:
        self.step += 1
        self.deadlines.set(key, when)
        self.model[key] = (when, self.step)

    @rule(when=times)
    def set_many(self, when: float) -> None:
        for key in range(100):
            self.set(key, when + key % 7)

    @rule(key=keys)
    def discard(self, key: int) -> None:
        self.deadlines.discard(key)
        self.model.pop(key, None)

    @rule()
    def discard_many(self) -> None:
        for key in range(90):
            self.discard(key)

    @rule(now=times)
    def due(self, now: float) -> None:
        expected = sorted(
            (k for k, v in self.model.items() if v[0] <= now), key=self.model.__getitem__
        )
        assert self.deadlines.due(now) == expected
        for key in expected:
            del self.model[key]

    @rule()
    def next(self) -> None:
        earliest = min((when for when, _ in self.model.values()), default=None)
        assert self.deadlines.next() == earliest
        first = self.deadlines.first()
        if earliest is None:
            assert first is None
        else:
            assert first == min(self.model, key=self.model.__getitem__)

    @invariant()
    def the_same_keys(self) -> None:
        assert len(self.deadlines) == len(self.model)
        assert all(key in self.deadlines for key in self.model)


TestDeadlinesMachine = DeadlinesMachine.TestCase
TestDeadlinesMachine.settings = settings(max_examples=30, stateful_step_count=30)


def test_deadlines_can_be_taken_with_their_times() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 3)
    deadlines.set("b", 1)
    deadlines.set("b", 2)
    assert (deadlines.when("b"), deadlines.when("c")) == (2, None)
    assert list(deadlines.take_times(2.5)) == [("b", 2)]
    assert (deadlines.when("a"), deadlines.when("b")) == (3, None)
