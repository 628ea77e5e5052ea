from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tidegate.core.admission.breaker import CircuitBreaker, State
from tidegate.core.settings import BreakerSettings

CLOSED, OPEN, HALF_OPEN = State.CLOSED, State.OPEN, State.HALF_OPEN


def settings_of(**values: Any) -> BreakerSettings:
    usual = {"enabled": True, "rejections": 5, "window": 10.0, "open_for": 20.0, "probes": 2}
    return BreakerSettings(**{**usual, **values})


def breaker(**values: Any) -> CircuitBreaker:
    return CircuitBreaker(settings_of(**values))


def tripped(probes: int = 2) -> CircuitBreaker:
    made = breaker(rejections=1, probes=probes)
    made.rejected(100.0)
    return made


@pytest.mark.parametrize(
    ("times", "state"),
    [
        ([], CLOSED),
        ([0, 0, 0, 0], CLOSED),
        ([0, 0, 0, 0, 0], OPEN),
        ([0, 2, 4, 6, 8], OPEN),
        ([0.9, 3, 5, 7, 9.9], OPEN),
        # The first is too old when the last comes.
        ([0, 3, 5, 7, 10], CLOSED),
        ([0, 0, 0, 0, 1e9], CLOSED),
        ([0, 3, 6, 9, 12, 15, 18], CLOSED),
        ([1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3, 1e9 + 4], OPEN),
    ],
)
def test_it_opens_on_rejections_within_the_window(times: list[float], state: State) -> None:
    made = breaker()
    for time in times:
        made.rejected(time)
    assert made.state(times[-1] if times else 0.0) is state


def test_admissions_do_not_keep_it_closed() -> None:
    made = breaker()
    for time in range(5):
        made.admitted(time)
        made.rejected(time)
    assert made.state(4.0) is OPEN


@pytest.mark.parametrize(
    ("now", "state", "retry_after"),
    [
        (100.0, OPEN, 20),
        (100.1, OPEN, 20),
        (119.0, OPEN, 1),
        (119.9, OPEN, 1),
        (120.0, HALF_OPEN, 1),
        (1e6, HALF_OPEN, 1),
    ],
)
def test_it_is_half_open_after_its_time(now: float, state: State, retry_after: int) -> None:
    made = tripped()
    assert made.state(now) is state
    assert made.retry_after(now) == retry_after


def test_what_happens_while_it_is_open_changes_nothing() -> None:
    made = tripped()
    for _ in range(50):
        made.rejected(110.0)
        made.admitted(110.0)
    assert made.state(119.9) is OPEN
    assert made.state(120.0) is HALF_OPEN


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ("", HALF_OPEN),
        ("aa", HALF_OPEN),
        ("rr", HALF_OPEN),
        ("arar", HALF_OPEN),
        ("aaa", CLOSED),
        ("rrr", OPEN),
        ("raara", CLOSED),
        ("arrar", OPEN),
    ],
)
def test_half_open_it_is_on_probation(events: str, state: State) -> None:
    made = tripped(probes=3)
    for event in events:
        (made.admitted if event == "a" else made.rejected)(120.0)
    assert made.state(120.0) is state


def test_closed_again_it_starts_to_count_from_zero() -> None:
    made = breaker(rejections=3, probes=1, open_for=1.0)
    for _ in range(3):
        made.rejected(100.0)
    made.admitted(101.0)
    assert made.state(101.0) is CLOSED
    made.rejected(101.0)
    made.rejected(101.0)
    assert made.state(101.0) is CLOSED
    made.rejected(101.0)
    assert made.state(101.0) is OPEN


def test_every_probation_starts_from_zero() -> None:
    made = tripped(probes=3)
    for event in (made.admitted, made.admitted, made.rejected, made.rejected, made.rejected):
        event(120.0)
    for event in (made.admitted, made.admitted, made.rejected, made.rejected):
        event(140.0)
    assert made.state(140.0) is HALF_OPEN


def test_off_it_never_opens() -> None:
    made = breaker(rejections=1, enabled=False)
    made.rejected(0.0)
    assert made.state(0.0) is CLOSED
    assert made.explain(0.0).passed
    assert made.explain(0.0).detail == "the breaker is off"


def test_it_explains_itself() -> None:
    made = breaker(rejections=2)
    made.rejected(0.0)
    step = made.explain(0.0)
    assert (step.name, step.passed) == ("breaker", True)
    assert step.detail == "closed: 1 of 2 rejections within 10 s"
    assert (step.numbers["rejections"], step.numbers["retry_after"]) == (1, None)
    assert made.explain(50.0).detail == "closed: 0 of 2 rejections within 10 s"
    made.rejected(50.0)
    made.rejected(50.0)
    step = made.explain(55.5)
    assert not step.passed
    assert step.detail == "open: too many rejections; half open in 15 s"
    assert (step.numbers["state"], step.numbers["retry_after"]) == ("open", 15)
    made.admitted(70.0)
    step = made.explain(70.0)
    assert step.passed
    assert step.detail == "half open: 1 of 2 admissions"
    assert step.numbers["state"] == "half_open"


class TestApply:
    """Settings that change while rejections are counted."""

    def test_a_lower_limit_opens_at_the_next_rejection(self) -> None:
        made = breaker(rejections=5)
        for _ in range(3):
            made.rejected(100.0)
        made.apply(settings_of(rejections=2))
        assert made.state(100.0) is CLOSED
        made.rejected(100.0)
        assert made.state(100.0) is OPEN

    def test_a_higher_limit_keeps_what_was_counted(self) -> None:
        made = breaker(rejections=3)
        made.rejected(100.0)
        made.rejected(100.0)
        made.apply(settings_of(rejections=4))
        made.rejected(101.0)
        assert made.state(101.0) is CLOSED
        made.rejected(101.0)
        assert made.state(101.0) is OPEN

    @pytest.mark.parametrize(
        ("window", "now", "counted"),
        [
            # Three at 100 s, two at 104 s; counted in tenths, which began then.
            (10.0, 104.0, 5),
            (100.0, 104.0, 5),
            (100.0, 189.0, 5),
            (100.0, 205.0, 0),
            (5.0, 104.0, 5),
            (5.0, 105.0, 2),
            (2.0, 104.0, 2),
            (2.0, 106.0, 0),
            (0.1, 104.0, 2),
        ],
    )
    def test_another_window_keeps_what_is_within_it(
        self, window: float, now: float, counted: int
    ) -> None:
        made = breaker(rejections=9)
        for time in (100.0, 100.0, 100.0, 104.0, 104.0):
            made.rejected(time)
        made.apply(settings_of(rejections=9, window=window))
        numbers = made.explain(now).numbers
        assert (numbers["rejections"], numbers["window"]) == (counted, window)

    def test_an_open_breaker_stays_open_for_as_long_as_it_was_set_to(self) -> None:
        made = tripped()
        made.apply(settings_of(open_for=5.0, window=1.0))
        assert made.state(119.9) is OPEN
        assert made.state(120.0) is HALF_OPEN
        for _ in range(2):
            made.rejected(120.0)
        assert made.retry_after(120.0) == 5

    @pytest.mark.parametrize(("probes", "state"), [(1, CLOSED), (3, HALF_OPEN)])
    def test_admissions_on_probation_stay_counted(self, probes: int, state: State) -> None:
        made = tripped(probes=2)
        made.admitted(120.0)
        made.apply(settings_of(probes=probes))
        assert made.state(120.0) is HALF_OPEN
        made.admitted(120.0)
        assert made.state(120.0) is state

    @pytest.mark.parametrize("enabled", [True, False])
    def test_it_is_not_switched_on_or_off(self, enabled: bool) -> None:
        made = breaker(enabled=enabled, rejections=1)
        made.apply(settings_of(enabled=not enabled, rejections=1))
        made.rejected(0.0)
        assert (made.state(0.0) is OPEN) is enabled


class BreakerMachine(RuleBasedStateMachine):
    """Beside every rejection kept with its time: never early, late by a tenth of the window."""

    def __init__(self) -> None:
        super().__init__()
        self.own = settings_of(rejections=4)
        self.breaker = CircuitBreaker(self.own)
        self.now = 1000.0
        # When each came, and how much earlier it may be forgotten than its window says.
        self.kept: list[tuple[float, float]] = []
        self.until: float | None = None
        self.score = [0, 0]

    @rule(step=st.sampled_from([0.0, 0.3, 1.0, 2.5, 7.0, 30.0]))
    def wait(self, step: float) -> None:
        self.now += step

    @rule(
        rejections=st.integers(1, 6),
        window=st.sampled_from([1.0, 7.0, 10.0, 60.0]),
        probes=st.integers(1, 3),
    )
    def apply(self, rejections: int, window: float, probes: int) -> None:
        if window != self.own.window:
            # A rejection is taken to have come when its tenth began. One that may have been
            # forgotten already may also be within the new window.
            old = self.own.window
            self.kept = [
                (at, early + old / 10 if self.now - at < old * 0.9 - early else math.inf)
                for at, early in self.kept
            ]
        self.own = settings_of(rejections=rejections, window=window, probes=probes)
        self.breaker.apply(self.own)

    @rule(times=st.integers(1, 3))
    def reject(self, times: int) -> None:
        for _ in range(times):
            self._reject()

    def _reject(self) -> None:
        before = self.breaker.state(self.now)
        self.breaker.rejected(self.now)
        opened = self.breaker.state(self.now) is OPEN
        if before is HALF_OPEN:
            self.score[1] += 1
            assert opened == (self.score[1] >= self.own.probes)
        elif before is CLOSED:
            self.kept.append((self.now, 0.0))
            window = self.own.window
            young = sum(self.now - at < window for at, _ in self.kept)
            surely = sum(self.now - at < window * 0.9 - early for at, early in self.kept)
            assert not opened or young >= self.own.rejections
            assert opened or surely < self.own.rejections
        if opened and before is not OPEN:
            self.until = self.now + self.own.open_for
            self.kept.clear()
            self.score = [0, 0]

    @rule()
    def admit(self) -> None:
        before = self.breaker.state(self.now)
        self.breaker.admitted(self.now)
        if before is HALF_OPEN:
            self.score[0] += 1
            closed = self.breaker.state(self.now) is CLOSED
            assert closed == (self.score[0] >= self.own.probes)
            if closed:
                self.until = None

    @invariant()
    def the_state_is_the_one_expected(self) -> None:
        if self.until is not None and self.now < self.until:
            expected = OPEN
        else:
            expected = CLOSED if self.until is None else HALF_OPEN
        assert self.breaker.state(self.now) is expected


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = hypothesis_settings(max_examples=40, stateful_step_count=40)
