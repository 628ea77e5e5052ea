"""The Pacer beside a plain table of who holds which slot."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.core.admission.test_pacing import T0, take
from tidegate.core.admission.pacing import EARLY, GRACE, Pacer

RATE, BURST = 4.0, 3


class PacerMachine(RuleBasedStateMachine):
    """Clients of any behaviour against a plain table of who holds which slot."""

    @initialize(heeds=st.booleans())
    def start(self, heeds: bool) -> None:
        self.pacer = Pacer(RATE, BURST, per_key=1)
        self.heeds = heeds
        self.now = T0
        self.rate, self.burst = RATE, BURST
        # The rate at which holders may still come, and until when, after the rate was lowered.
        self.fast, self.fast_until = RATE, 0.0
        self.slots: dict[int, float] = {}
        self.last_slot = self.next_slot = 0.0
        self.lapsed = 0
        self.admitted: list[float] = []
        self.strangers = 1000

    def attempt(self, key: int) -> None:
        if self.heeds:
            self.now += self.pacer.wait_to_decide(self.now)
        now = self.now
        for holder in [holder for holder, slot in self.slots.items() if slot < now - GRACE]:
            del self.slots[holder]
            self.lapsed += 1
        slot = self.slots.get(key)
        lapsed = self.lapsed
        step = self.pacer.explain(key, now)
        delay = take(self.pacer, key, now)
        if delay == 0.0:
            self.admitted.append(now)
        if slot is not None and slot <= now:
            assert delay == 0.0
            assert self.slots.pop(key) == slot
        elif delay == 0.0 and slot is not None and slot <= now + EARLY and not self.holds(key):
            assert self.slots.pop(key) == slot
        elif delay == 0.0:
            # No attempt overtakes, unless a holder stayed away.
            assert max(self.slots.values(), default=0.0) <= now or self.lapsed > 0
            self.lapsed -= max(self.slots.values(), default=0.0) > now
        elif slot is not None:
            assert delay == slot - now
        else:
            self.slots[key] = now + delay
            assert now + delay >= self.next_slot - 1e-3 / self.rate
            self.last_slot = now + delay
            self.next_slot = now + delay + 1 / self.rate
        if slot is None or slot <= now or slot > now + EARLY:
            # Between the two, more slots may have been found to have lapsed.
            assert step.passed == (delay == 0.0) or (lapsed and delay == 0.0)
            assert step.passed or delay == 0.0 or step.numbers["delay"] == round(delay, 3)

    def holds(self, key: int) -> bool:
        """Whether its slot is still kept, so that it was admitted at one that is free."""
        return key in self.pacer._claims

    @rule(rate=st.sampled_from([2.0, 4.0, 20.0]), burst=st.sampled_from([1, 3, 10]))
    def apply(self, rate: float, burst: int) -> None:
        to_come = self.next_slot - self.now
        if to_come > 0 and rate > self.rate:
            self.lapsed += math.ceil(to_come * (rate - self.rate)) + 1
        self.pacer.apply(rate, burst, per_key=1, now=self.now)
        self.fast = max(self.fast if self.now < self.fast_until else 0.0, self.rate)
        self.fast_until = self.last_slot + GRACE
        self.rate, self.burst = rate, burst
        # The bounds are those of one rate and burst.
        self.admitted = []

    @rule(seconds=st.sampled_from([0.001, 0.25, 1.0, 5.0, 17.0]) | st.floats(0.0, 20.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 40))
    def new_attempts(self, count: int) -> None:
        for _ in range(count):
            self.strangers += 1
            self.attempt(self.strangers)

    @rule(key=st.integers(0, 5), times=st.integers(1, 5), every=st.sampled_from([0.1, 1.0, 2.0]))
    def hammer(self, key: int, times: int, every: float) -> None:
        for _ in range(times):
            self.attempt(key)
            self.now += every

    @rule(share=st.integers(1, 3))
    def all_that_may_come_at_once(self, share: int) -> None:
        for key, slot in list(self.slots.items())[::share]:
            if slot - EARLY <= self.now:
                self.attempt(key)

    @rule(late=st.sampled_from([0.0, 0.5, GRACE - 0.1]))
    def next_holder(self, late: float) -> None:
        coming = [(slot, key) for key, slot in self.slots.items() if slot + late >= self.now]
        if coming:
            slot, key = min(coming)
            self.now = slot + late
            self.attempt(key)

    @invariant()
    def never_more_than_stated(self) -> None:
        if hasattr(self, "pacer"):
            slack = 0.0 if self.heeds else GRACE + EARLY
            for index, start in enumerate(self.admitted):
                rate = max(self.rate, self.fast if self.fast_until > start - slack else 0.0)
                for count, end in enumerate(self.admitted[index:], 1):
                    assert count <= rate * (end - start + slack) + self.burst + 1.001

    @invariant()
    def remembers_no_more_than_is_held(self) -> None:
        if hasattr(self, "pacer"):
            held = {key: slot for key, slot in self.slots.items() if slot >= self.now - GRACE}
            assert held == {
                key: claim[0]
                for key, claim in self.pacer._claims.items()
                if claim[0] >= self.now - GRACE
            }


TestPacerMachine = PacerMachine.TestCase
TestPacerMachine.settings = settings(max_examples=50, stateful_step_count=25)


@given(
    per_key=st.integers(1, 20),
    heeds=st.booleans(),
    attempts=st.lists(
        st.tuples(st.sampled_from([0.0, 0.0, 0.05, 0.4, 2.0, 6.0]), st.integers(0, 3)), max_size=150
    ),
)
@settings(max_examples=40)
def test_shared_keys_keep_the_bounds(
    per_key: int, heeds: bool, attempts: list[tuple[float, int]]
) -> None:
    pacer = Pacer(RATE, BURST, per_key=per_key)
    now = T0
    admitted: list[float] = []
    for wait, key in attempts:
        now += wait + (pacer.wait_to_decide(now + wait) if heeds else 0.0)
        if take(pacer, key, now) == 0.0:
            admitted.append(now)
        assert all(0 < len(claim) <= per_key for claim in pacer._claims.values())
        assert all(claim == sorted(claim) for claim in pacer._claims.values())
    slack = 0.0 if heeds else GRACE + EARLY
    for index, start in enumerate(admitted):
        for count, end in enumerate(admitted[index:], 1):
            assert count <= RATE * (end - start + slack) + BURST + 1.001
