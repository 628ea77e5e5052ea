"""A draining server refuses every attempt, and not all with the same delay."""

from __future__ import annotations

from collections import Counter

import pytest

from tidegate.core.admission.admission import Admission
from tidegate.core.admission.shedding import LoadShedder
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import DRAINING
from tidegate.core.settings import Settings


def delays(count: int, **sections: dict[str, object]) -> list[float]:
    settings = Settings.from_mapping(sections)
    tracker = ConnectionTracker(settings.limits, settings.tiers)
    shedder = LoadShedder(settings, 0.0)
    admission = Admission(settings, tracker, shedder, lambda: 0.0, lambda policy: None)
    admission.draining = True
    found = []
    for number in range(count):
        rejection = admission.precheck(f"192.0.2.{number % 256}", 0.0)
        assert rejection is not None
        assert rejection.reason is DRAINING
        assert rejection.retry_after is not None
        found.append(rejection.retry_after)
    return found


def test_a_few_are_told_the_usual_delay() -> None:
    assert set(delays(100)) == {DRAINING.retry_after}


@pytest.mark.parametrize(("window", "spread"), [(30, 30), (3, 3), (0, 1), (0.5, 1)])
def test_a_herd_is_spread_over_the_window_at_the_rate_of_the_pacing(
    window: float, spread: int
) -> None:
    found = delays(6000, drain={"window": window}, pacing={"rate": 100.0})
    counts = Counter(found)
    assert min(counts) == DRAINING.retry_after
    assert len(counts) == spread
    # Once around the window and again: no second gets more than its share.
    assert max(counts.values()) - min(counts.values()) <= 100
