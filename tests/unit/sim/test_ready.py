"""The scenarios that come with Tidegate: what they are there to show."""

from __future__ import annotations

import pytest

from tests.unit.sim.worlds import small
from tidegate.sim.happenings import simulate
from tidegate.sim.outcome import outcome_of
from tidegate.sim.scenario import OFF, ready

DURATIONS = {"deploy-at-peak": 900.0, "one-node-dies": 400.0, "restart-cascade": 240.0}


@pytest.mark.parametrize("name", list(ready()))
def test_ready_scenario_cascades_with_everything_off_and_not_with_the_defaults(name: str) -> None:
    scenario = small(name, duration=DURATIONS.get(name, 180.0))
    with_defaults = outcome_of(scenario, simulate(scenario))
    without = scenario.with_settings(OFF)
    with_none = outcome_of(without, simulate(without))
    assert not with_defaults.cascade, with_defaults.events
    assert with_none.cascade
    assert with_none.nodes_failed >= 5
    assert with_defaults.connections_most <= scenario.settings.limits.connections
