from __future__ import annotations

import pytest

from tests.unit.sim.worlds import scenario
from tidegate.errors import ConfigError
from tidegate.sim.arrivals import Curve
from tidegate.sim.happenings import simulate
from tidegate.sim.outcome import outcome_of
from tidegate.sim.sections import ArrivalPoint

POINTS = (ArrivalPoint(at=10.0, rate=0.0), ArrivalPoint(at=20.0, rate=100.0))

DAY = """
[run]
duration = "10m"

[fleet]
nodes = 2

[load]
stay = "30s"

[[clients]]
count = 0
arrive = [{ at = "0s", rate = 0 }, { at = "5m", rate = 20 }, { at = "9m", rate = 0 }]
"""


def test_curve_changes_evenly_between_points_and_not_outside() -> None:
    curve = Curve(POINTS)
    assert [curve.rate(time) for time in (0, 10, 15, 20, 90)] == [0, 0, 50, 100, 100]
    assert curve.most == 100


def test_curve_total_is_the_area_below_it() -> None:
    assert Curve(POINTS).total(30) == pytest.approx(500 + 1000)
    assert Curve(POINTS[1:]).total(5) == pytest.approx(500)


def test_arrivals_come_at_the_rate_and_leave_for_good() -> None:
    found = scenario(DAY)
    outcome = outcome_of(found, simulate(found))
    assert outcome.admitted == pytest.approx(9 * 60 * 20 / 2, rel=0.01)
    connected = outcome.series.connected
    # By Little's law, a little late: 20 a second that stay 30 s.
    assert 480 < max(connected) < 640
    assert connected[-1] < 40
    assert outcome.missing == 0


def test_arrivals_in_larger_objects_are_as_many() -> None:
    found = scenario(DAY.replace("[run]", "[run]\nexact = 0\nobjects = 100"))
    assert found.weight == 3
    assert outcome_of(found, simulate(found)).admitted == pytest.approx(5400, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("count = 0", "clients[1].count = 0: must be 1 or more, where none arrive"),
        ("arrive = [{ at = 9 }, { at = 8 }]", "clients[1].arrive"),
        (
            "arrive = [{ at = 9, speed = 1 }]",
            "clients[1].arrive: number 1: speed: there is no such setting",
        ),
        ("arrive = [{ rate = -1 }]", "clients[1].arrive: number 1: rate = -1"),
        ("arrive = 5", "clients[1].arrive = 5"),
    ],
)
def test_arrivals_a_mistake_is_named(kind: str, error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        scenario(f"[[clients]]\n{kind}\n")
    assert error in str(raised.value)
