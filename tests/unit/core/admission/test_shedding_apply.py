"""Settings that change under pressure."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.admission.test_shedding import PROFILES, at, idle_for, shedder
from tidegate.core.admission.shedding import LoadShedder, Profile, Signals, Zone
from tidegate.core.settings import Settings

NORMAL, WARNING, CRITICAL, EMERGENCY = Zone
MIB = 1 << 20


def apply(made: LoadShedder, data: Any = None, **own: Any) -> None:
    sections = {"shedding": {"enabled": True, **own}} | (data or {})
    made.apply(Settings.from_mapping(sections))


def test_the_zone_stays_until_the_next_sample() -> None:
    made = at(0.9)
    apply(made, warning=0.5, critical=0.6, emergency=0.8)
    assert (made.zone, made.pressure, made.driver) == (CRITICAL, 0.9, "connections")
    change = made.sample(Signals(connections=0.9), 1.0)
    assert change is not None
    assert (change.old, change.new) == (CRITICAL, EMERGENCY)


def test_higher_thresholds_leave_the_zone_after_the_hold_time() -> None:
    made = at(0.9)
    apply(made, warning=0.96, critical=0.97, emergency=0.98)
    made.sample(Signals(connections=0.9), 4.0)
    assert made.zone is CRITICAL
    made.sample(Signals(connections=0.9), 5.1)
    assert made.zone is NORMAL


@pytest.mark.parametrize(
    ("before", "after", "admitted", "profile"),
    [(False, True, False, PROFILES[3]), (True, False, True, PROFILES[0])],
)
def test_it_is_switched_on_and_off(
    before: bool, after: bool, admitted: bool, profile: Profile
) -> None:
    made = at(1.0, enabled=before)
    apply(made, enabled=after)
    assert made.zone is EMERGENCY
    assert made.acts is after
    assert made.admits(0, 0.0) is admitted
    assert made.profile == profile
    assert bool(made.shed(idle_for(600.0), 10, 1000.0)) is after


def test_tried_out_it_still_only_measures() -> None:
    made = shedder({"limits": {"dry_run": ["shedding"]}}, enabled=False)
    apply(made, {"limits": {"dry_run": ["shedding"]}}, enabled=True)
    made.sample(Signals(connections=1.0), 1.0)
    assert not made.acts
    assert not made.admits(0, 0.0)
    assert made.profile == PROFILES[0]


def test_averages_go_on_from_what_they_were() -> None:
    made, steady = shedder(cpu=[0.0, 1.0]), shedder(cpu=[0.0, 1.0])
    for quarter in range(1, 9):
        for one in (made, steady):
            one.sample(Signals(cpu=0.6), quarter / 4)
    apply(made, cpu=[0.0, 0.8])
    for one in (made, steady):
        one.sample(Signals(cpu=0.6), 2.25)
    assert made.pressure == pytest.approx(steady.pressure / 0.8)


def test_an_average_above_the_new_end_is_a_pressure_of_1_at_most() -> None:
    made = shedder()
    made.sample(Signals(loop_lag=9.0), 60.0)
    apply(made, loop_lag=[0.01, 0.1])
    made.sample(Signals(loop_lag=9.0), 60.25)
    assert made.pressure == 1.0
    # It is forgotten as fast as if it had been at the end.
    for quarter in range(2, 12):
        made.sample(Signals(loop_lag=0.0), 60.0 + quarter / 4)
    assert made.pressure < 0.3


def test_a_signal_that_was_left_out_begins_anew() -> None:
    made = shedder()
    made.sample(Signals(loop_lag=9.0), 60.0)
    apply(made, loop_lag=[])
    made.sample(Signals(loop_lag=9.0), 61.0)
    assert (made.pressure, made.pressures.get("loop_lag")) == (0.0, None)
    apply(made)
    made.sample(Signals(loop_lag=0.0), 62.0)
    assert made.pressure == 0.0


@pytest.mark.parametrize(("shed_every", "again"), [(60.0, 60.0), (5.0, 5.0), (300.0, 300.0)])
def test_the_time_between_closes_counts_from_the_last_ones(shed_every: float, again: float) -> None:
    made = at(1.0)
    assert made.shed(idle_for(600.0), 10, 1000.0)
    apply(made, shed_every=shed_every)
    assert made.shed(idle_for(600.0), 10, 1000.0 + again - 0.1) == []
    assert made.shed(idle_for(600.0), 10, 1000.0 + again)


@pytest.mark.parametrize(
    ("data", "own", "profile"),
    [
        ({"messages": {"per_second": 10}}, {}, Profile(True, 64 * 1024, 10.0, 60.0)),
        ({"heartbeat": {"interval": 90}}, {}, Profile(True, 64 * 1024, 20.0, 90.0)),
        ({"zones": {"broadcast": [True, False, False]}}, {}, Profile(False, 64 * 1024, 20.0, 60.0)),
        ({"zones": {"max_message_size": []}}, {}, Profile(True, MIB, 20.0, 60.0)),
        ({}, {"critical_acceptance": 0.1}, PROFILES[2]),
    ],
)
def test_the_profile_is_that_of_the_new_settings(
    data: Any, own: dict[str, Any], profile: Profile
) -> None:
    made = at(0.9)
    apply(made, data, **own)
    assert made.profile == profile
    assert made.admits(0, 0.2) is not own


@pytest.mark.parametrize(("min_priority", "admitted"), [(20, True), (40, False)])
def test_another_priority_is_preferred(min_priority: int, admitted: bool) -> None:
    made = at(1.0)
    apply(made, min_priority=min_priority)
    assert made.prefers(30) is made.admits(30, 0.0) is admitted


def test_another_time_is_idle() -> None:
    made = at(1.0)
    apply(made, idle_after=10.0)
    assert made.shed(idle_for(9.0, 11.0), 20, 1000.0) == ["11"]
