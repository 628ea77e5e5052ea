from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from tidegate.core.admission.shedding import Change, LoadShedder, Profile, Signals, Zone
from tidegate.core.settings import Settings

NORMAL, WARNING, CRITICAL, EMERGENCY = Zone
HOLD = 5.0
MIB = 1 << 20


def shedder(data: Any = None, **own: Any) -> LoadShedder:
    sections = {"shedding": {"enabled": True, **own}} | (data or {})
    return LoadShedder(Settings.from_mapping(sections), 0.0)


def at(pressure: float, **own: Any) -> LoadShedder:
    made = shedder(**own)
    made.sample(Signals(connections=pressure), 0.0)
    return made


@pytest.mark.parametrize(
    ("signals", "pressure", "driver"),
    [
        (Signals(), 0.0, None),
        (Signals(connections=0.0, buffered=0), 0.0, None),
        (Signals(connections=0.4), 0.4, "connections"),
        (Signals(memory=0.70), 0.0, None),
        (Signals(memory=0.825), 0.5, "memory"),
        (Signals(memory=0.99), 1.0, "memory"),
        (Signals(descriptors=0.84), 0.5, "descriptors"),
        (Signals(buffered=64 * MIB), 0.0, None),
        (Signals(buffered=288 * MIB), 0.5, "buffered"),
        (Signals(buffered=10_000 * MIB), 1.0, "buffered"),
        (Signals(connections=0.6, buffered=288 * MIB, memory=0.1), 0.6, "connections"),
    ],
)
def test_the_highest_signal_drives(signals: Signals, pressure: float, driver: str | None) -> None:
    made = shedder()
    made.sample(signals, 1.0)
    assert made.pressure == pytest.approx(pressure)
    assert made.driver == driver


@pytest.mark.parametrize(("name", "low", "high"), [("cpu", 0.8, 1.0), ("loop_lag", 0.05, 0.5)])
def test_cpu_and_loop_lag_are_averaged(name: str, low: float, high: float) -> None:
    made = shedder(smoothing=2.0)
    busy, quiet = Signals(**{name: 10 * high}), Signals(**{name: 0.0})
    made.sample(busy, 0.25)
    assert made.zone is NORMAL
    for quarter in range(2, 200):
        made.sample(busy, quarter / 4)
    assert made.pressure == pytest.approx(1.0)
    assert made.zone is EMERGENCY
    # What was far beyond the end is forgotten as fast as what was at it.
    for quarter in range(200, 204):
        made.sample(quiet, quarter / 4)
    assert made.pressure < 0.6


def test_the_average_depends_on_the_time_and_not_on_the_number_of_samples() -> None:
    often, rarely = shedder(cpu=[0.0, 1.0]), shedder(cpu=[0.0, 1.0])
    for quarter in range(1, 13):
        often.sample(Signals(cpu=0.8), quarter / 4)
    rarely.sample(Signals(cpu=0.8), 3.0)
    assert often.pressure == pytest.approx(rarely.pressure)
    assert rarely.pressure == pytest.approx(0.8 * (1 - math.exp(-3.0 / 2.0)))


def test_one_reading_after_a_long_stall_counts_in_full() -> None:
    made = shedder()
    assert made.sample(Signals(loop_lag=30.0), 30.0) is not None
    assert made.zone is EMERGENCY


def test_a_signal_can_be_left_out() -> None:
    made = shedder(connections=[])
    made.sample(Signals(connections=1.0), 0.0)
    assert (made.pressure, made.driver, made.pressures) == (0.0, None, {})


@pytest.mark.parametrize(
    ("pressure", "zone"),
    [
        (0.0, NORMAL),
        (0.69, NORMAL),
        (0.70, WARNING),
        (0.84, WARNING),
        (0.85, CRITICAL),
        (0.94, CRITICAL),
        (0.95, EMERGENCY),
        (1.0, EMERGENCY),
    ],
)
def test_a_zone_is_entered_at_once(pressure: float, zone: Zone) -> None:
    made = shedder()
    change = made.sample(Signals(connections=pressure), 7.0)
    assert made.zone is zone
    if zone is NORMAL:
        assert change is None
        assert made.since == 0.0
    else:
        assert change == Change(NORMAL, zone, pressure, "connections", 7.0)
        assert made.since == 7.0


@pytest.mark.parametrize(
    ("samples", "zone"),
    [
        # (seconds, pressure) after an emergency at 0 s
        ([(1.0, 0.91), (9.0, 0.91)], EMERGENCY),
        ([(1.0, 0.0), (5.0, 0.0)], EMERGENCY),
        ([(1.0, 0.0), (5.1, 0.0)], NORMAL),
        ([(1.0, 0.0), (3.0, 0.92), (5.1, 0.0), (8.0, 0.0)], EMERGENCY),
        ([(1.0, 0.0), (3.0, 0.92), (8.1, 0.0)], NORMAL),
        # Straight for the zone that fits, and not below what the hold time has seen.
        ([(2.0, 0.89), (5.1, 0.89)], CRITICAL),
        ([(2.0, 0.82), (5.1, 0.0)], CRITICAL),
        ([(2.0, 0.79), (5.1, 0.79)], WARNING),
        ([(2.0, 0.66), (5.1, 0.0)], WARNING),
        ([(2.0, 0.66), (5.1, 0.0), (7.1, 0.0)], NORMAL),
        ([(2.0, 0.64), (5.1, 0.0)], NORMAL),
        ([(2.0, 0.0), (5.1, 0.0), (5.2, 0.71)], WARNING),
    ],
)
def test_a_zone_is_left_after_the_hold_time(samples: list[tuple[float, float]], zone: Zone) -> None:
    made = at(1.0)
    for now, pressure in samples:
        made.sample(Signals(connections=pressure), now)
    assert made.zone is zone


def test_without_a_hold_time_the_hysteresis_still_counts() -> None:
    made = at(0.85, hold=0)
    made.sample(Signals(connections=0.81), 1.0)
    assert made.zone is CRITICAL
    made.sample(Signals(connections=0.79), 2.0)
    assert made.zone is WARNING


@pytest.mark.parametrize(
    ("pressure", "priority", "chance", "admitted"),
    [
        (0.6, 0, 0.999, True),
        (0.8, 0, 0.999, True),
        (0.9, 0, 0.499, True),
        (0.9, 0, 0.5, False),
        (0.9, 49, 0.999, False),
        (0.9, 50, 0.999, True),
        (1.0, 0, 0.0, False),
        (1.0, 49, 0.0, False),
        (1.0, 50, 0.999, True),
    ],
)
def test_who_is_admitted(pressure: float, priority: int, chance: float, admitted: bool) -> None:
    assert at(pressure).admits(priority, chance) is admitted


@pytest.mark.parametrize(("share", "chance"), [(0.0, 0.0), (1.0, 0.999)])
def test_the_share_of_critical_can_be_all_or_none(share: float, chance: float) -> None:
    assert at(0.9, critical_acceptance=share).admits(0, chance) is bool(share)


PROFILES = [
    Profile(True, MIB, 100.0, 30.0),
    Profile(True, 512 * 1024, 50.0, 45.0),
    Profile(True, 64 * 1024, 20.0, 60.0),
    Profile(False, 16 * 1024, 5.0, 120.0),
]


@pytest.mark.parametrize(
    ("pressure", "profile"), list(zip([0.5, 0.8, 0.9, 1.0], PROFILES, strict=True))
)
def test_every_zone_has_its_profile(pressure: float, profile: Profile) -> None:
    assert at(pressure).profile == profile


@pytest.mark.parametrize(
    ("data", "profile"),
    [
        (
            {"messages": {"max_size": 1000, "per_second": 2}, "heartbeat": {"interval": 300}},
            Profile(False, 1000, 2.0, 300.0),
        ),
        ({"messages": {"per_second": 0}}, Profile(False, 16 * 1024, 5.0, 120.0)),
        (
            {
                "zones": {
                    "broadcast": [],
                    "max_message_size": [],
                    "messages_per_second": [],
                    "ping_interval": [],
                }
            },
            PROFILES[0],
        ),
        (
            {"messages": {"per_second": 0}, "zones": {"messages_per_second": []}},
            Profile(False, 16 * 1024, 0.0, 120.0),
        ),
    ],
)
def test_a_zone_is_never_laxer_than_normal(data: Any, profile: Profile) -> None:
    made = shedder(data)
    made.sample(Signals(connections=1.0), 0.0)
    assert made.profile == profile


OFF = {"shedding": {"enabled": False}}
TRIAL = {"limits": {"dry_run": ["shedding"]}}


@pytest.mark.parametrize(("data", "admitted"), [(OFF, True), (TRIAL, False)])
def test_off_or_tried_out_it_only_measures(data: Any, admitted: bool) -> None:
    made = shedder(data)
    change = made.sample(Signals(connections=1.0), 0.0)
    assert change is not None
    assert made.zone is EMERGENCY
    assert made.profile == PROFILES[0]
    assert made.admits(0, 0.0) is admitted
    assert made.shed([(-1000.0, "idle")], 100, 0.0) == []


def idle_for(*seconds: float) -> list[tuple[float, str]]:
    return [(1000.0 - time, f"{time:g}") for time in seconds]


@pytest.mark.parametrize(
    ("idle", "total", "closed"),
    [
        ([], 100, []),
        (idle_for(299.0, 300.0, 301.0), 100, ["301", "300"]),
        (idle_for(400.0, 600.0, 500.0), 20, ["600", "500"]),
        (idle_for(400.0, 600.0), 10, ["600"]),
        (idle_for(400.0, 600.0), 19, ["600"]),
        (idle_for(400.0, 600.0), 9, []),
        # The order of those that are idle equally long is theirs.
        ([(0.0, "b"), (0.0, "a")], 10, ["b"]),
    ],
)
def test_the_longest_idle_are_shed(
    idle: list[tuple[float, str]], total: int, closed: list[str]
) -> None:
    made = shedder()
    made.sample(Signals(connections=1.0), 1000.0)
    assert made.shed(iter(idle), total, 1000.0) == closed


def test_shedding_comes_in_rounds() -> None:
    made = at(1.0)
    asked = 0

    def idle() -> Iterator[tuple[float, int]]:
        nonlocal asked
        asked += 1
        yield -1000.0, asked

    assert made.shed(idle(), 10, 0.0) == [1]
    for now in (0.25, 30.0, 59.9):
        assert made.shed(idle(), 10, now) == []
    assert asked == 1
    # Another emergency soon after is not another round.
    made.sample(Signals(connections=0.0), 50.0)
    assert made.zone is NORMAL
    assert made.shed(idle(), 10, 60.0) == []
    made.sample(Signals(connections=1.0), 60.0)
    assert made.shed(idle(), 10, 60.0) == [2]


def test_connections_are_never_compared() -> None:
    made = at(1.0)
    assert len(made.shed([(-1000.0, object()) for _ in range(30)], 100, 0.0)) == 10


@pytest.mark.parametrize(
    ("pressure", "priority", "own", "passed", "detail"),
    [
        (0.1, 0, {}, True, "normal: all attempts are admitted"),
        (0.8, 0, {}, True, "warning: all attempts are admitted"),
        (0.9, 0, {}, True, "critical: 50% of the attempts without priority are admitted"),
        (
            0.9,
            0,
            {"critical_acceptance": 0},
            False,
            "critical: 0% of the attempts without priority are admitted",
        ),
        (1.0, 0, {}, False, "emergency: 0% of the attempts without priority are admitted"),
        (1.0, 70, {}, True, "emergency: attempts with priority 50 or more are admitted"),
        (1.0, 0, {"enabled": False}, True, "shedding is off; the zone is emergency"),
    ],
)
def test_it_explains_itself(
    pressure: float, priority: int, own: dict[str, Any], passed: bool, detail: str
) -> None:
    step = at(pressure, **own).explain(priority)
    assert (step.name, step.passed, step.detail) == ("shedding", passed, detail)
    assert step.numbers["pressure"] == step.numbers["connections_pressure"] == pressure
    assert step.numbers["driver"] == "connections"
    assert (step.numbers["priority"], step.numbers["min_priority"]) == (priority, 50)


@given(
    st.sampled_from([0.70, 0.85, 0.95]),
    st.lists(st.floats(-0.049, 0.049), min_size=1, max_size=60),
    st.sampled_from([0.25, 1.0, 4.0, 7.0]),
)
@hypothesis_settings(max_examples=150)
def test_small_changes_around_a_threshold_are_one_change(
    threshold: float, offsets: list[float], step: float
) -> None:
    made = at(threshold - 0.049)
    changes = [
        made.sample(Signals(connections=threshold + offset), count * step)
        for count, offset in enumerate(offsets, 1)
    ]
    assert sum(change is not None for change in changes) <= 1


class Zones(RuleBasedStateMachine):
    """Any pressure at any pace, against the rules for one zone at a time."""

    ENTER = (0.0, 0.70, 0.85, 0.95)

    def __init__(self) -> None:
        super().__init__()
        self.shedder = shedder(hold=HOLD)
        self.now = 0.0
        self.samples: list[tuple[float, float]] = []
        self.crossed = [0, 0, 0, 0]

    @rule(
        pressure=st.floats(0, 1) | st.sampled_from([0.64, 0.66, 0.7, 0.79, 0.81, 0.91, 1.0]),
        step=st.sampled_from([0.25, 0.25, 1.0, 4.9, 5.1]),
    )
    def sample(self, pressure: float, step: float) -> None:
        self.now += step
        old = self.shedder.zone
        self.samples.append((self.now, pressure))
        change = self.shedder.sample(Signals(connections=pressure), self.now)
        new = self.shedder.zone
        assert (change is not None) == (new is not old)
        if change is not None:
            assert (change.old, change.new, change.at) == (old, new, self.now)
            assert self.shedder.since == self.now
        recent = max(seen for at, seen in self.samples if self.now - at <= HOLD)
        for zone in (WARNING, CRITICAL, EMERGENCY):
            enter, leave = self.ENTER[zone], self.ENTER[zone] - 0.05
            # In the zone or above it: entered now, or in it before and not calm for long enough.
            expected = pressure >= enter or (old >= zone and recent >= leave)
            assert (new >= zone) == expected
            self.crossed[zone] += (new >= zone) != (old >= zone)
            assert self.crossed[zone] <= 2 * (self.now / HOLD + 1)


TestZones = Zones.TestCase
TestZones.settings = hypothesis_settings(max_examples=40, stateful_step_count=50)
