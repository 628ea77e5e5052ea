"""What holds in every run: limits, the order of those that wait, leases; and that runs repeat."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.unit.sim.worlds import SMALL, scenario
from tidegate.sim.behaviours import BEHAVIOURS
from tidegate.sim.clients import State
from tidegate.sim.fleet import Fleet
from tidegate.sim.happenings import arrange, simulate
from tidegate.sim.outcome import outcome_of
from tidegate.sim.process import Process
from tidegate.sim.sections import KINDS

STEP = 0.1

happening = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "at": st.floats(1, 20),
        "nodes": st.integers(1, 3),
        "duration": st.floats(0.5, 20),
        "share": st.floats(0.1, 1),
        "factor": st.floats(1, 4),
        "rate": st.sampled_from([1, 50_000_000]),
        "mode": st.sampled_from(["rolling", "blue-green"]),
        "where": st.sampled_from(["clients", "balancer"]),
        "restarts": st.booleans(),
    }
)

gate = st.fixed_dictionaries(
    {
        "limits.connections": st.integers(5, 200),
        "limits.per_ip": st.integers(1, 100),
        "fleet.connections": st.none() | st.integers(1, 500),
        "pacing.enabled": st.booleans(),
        "pacing.rate": st.floats(1, 500),
        "pacing.burst": st.integers(1, 50),
        "waiting_room.enabled": st.booleans(),
        "waiting_room.size": st.integers(1, 100),
        "shedding.enabled": st.booleans(),
        "breaker.enabled": st.booleans(),
        "breaker.rejections": st.integers(1, 100),
        "drain.window": st.floats(0, 10),
        "server.backlog": st.integers(1, 100),
    }
)

world = st.fixed_dictionaries(
    {
        "nodes": st.integers(1, 4),
        "clients": st.integers(1, 250),
        "behaviours": st.lists(st.sampled_from(sorted(BEHAVIOURS)), min_size=1, max_size=3),
        "stay": st.sampled_from([0, 5, 60]),
        "loss": st.sampled_from([0, 0.2]),
        "backplane": st.sampled_from([0, 0.001, 2]),
        "algorithm": st.sampled_from(["round-robin", "least-connections", "agent-check", "sticky"]),
        "memory": st.sampled_from([0, 68_000_000]),
        "cost": st.sampled_from([1e-6, 1e-3, 5e-2]),
        "autoscale": st.booleans(),
        "seed": st.integers(0, 1000),
    }
)


def text_of(drawn: dict[str, object], happenings: list[dict[str, object]]) -> str:
    """A scenario as TOML."""

    def value(of: object) -> str:
        return str(of).lower() if isinstance(of, bool) else repr(of)

    behaviours = drawn["behaviours"]
    assert isinstance(behaviours, list)
    lines = [
        f"[run]\nduration = 30\nseed = {drawn['seed']}",
        f"[fleet]\nnodes = {drawn['nodes']}\nboot = 2\nmemory = {drawn['memory']}",
        f"[balancer]\nalgorithm = '{drawn['algorithm']}'\ninterval = 1",
        "[liveness]\ninterval = 2",
        f"[autoscale]\nenabled = {value(drawn['autoscale'])}\ninterval = 5\nmost = 6",
        f"[load]\nstay = {drawn['stay']}\nmessages = 0.5",
        f"[network]\nloss = {drawn['loss']}\nbackplane = {drawn['backplane']}",
        f"[costs]\ncpu_per_connect = {drawn['cost']}\ncpu_per_message = {drawn['cost']}",
        *(
            f"[[clients]]\ncount = {drawn['clients']}\nbehaviour = '{name}'\nper_address = 3"
            for name in behaviours
        ),
        *(
            "[[happenings]]\n" + "\n".join(f"{key} = {value(of)}" for key, of in each.items())
            for each in happenings
        ),
    ]
    return "\n".join(lines)


# A run takes long enough that it is not worth to look for a smaller one that fails as well.
@settings(
    max_examples=40,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(drawn=world, changes=gate, happenings=st.lists(happening, max_size=3))
def test_fleet_limits_hold_nobody_overtakes_and_every_lease_is_released(
    drawn: dict[str, object], changes: dict[str, object], happenings: list[dict[str, object]]
) -> None:
    found = scenario(text_of(drawn, happenings), changes)
    fleet = Fleet(found)
    fleet.populate()
    arrange(fleet)
    limit, most = found.settings.limits.connections, found.settings.fleet.connections
    processes: set[Process] = set()
    while fleet.clock.now < found.run.duration:
        lines = {
            node: (node.process, [(client, client.turn) for client in node.held])
            for node in fleet.nodes
        }
        fleet.clock.run(fleet.clock.now + STEP)
        for node in fleet.nodes:
            processes.add(node.process)
            assert node.process.tracker.open <= limit
            assert len(node.connections) <= node.process.tracker.open
        if most is not None:
            assert sum(len(node.connections) for node in fleet.nodes) <= most
        for node, (process, line) in lines.items():
            if node.process is not process:
                continue
            # One that was admitted, left and came back has another turn.
            admitted = [client.lease is not None and client.node is node for client, _ in line]
            still = [client in node.held and client.turn == turn for client, turn in line]
            last = max((n for n, came_in in enumerate(admitted) if came_in), default=-1)
            assert not any(still[: last + 1])
    fleet.end()
    for process in processes | {node.process for node in fleet.nodes}:
        assert process.tracker.open == 0
        assert process.waiting.kept == 0
        assert len(process.waiting) == 0
    assert not any(client.lease for client in fleet.clients if client.state is State.CONNECTED)


def test_fleet_the_same_seed_gives_the_same_run_and_another_one_does_not() -> None:
    text = SMALL + "[[happenings]]\nat = 5\nkind = 'death'\n"
    same = [outcome_of(scenario(text), simulate(scenario(text))) for _ in range(2)]
    assert same[0] == same[1]
    reseeded = scenario(text.replace('duration = "60s"', 'duration = "60s"\nseed = 2'))
    assert outcome_of(reseeded, simulate(reseeded)) != same[0]


def test_fleet_a_death_is_followed_by_reconnects_elsewhere() -> None:
    found = scenario(SMALL + "[load]\nstay = 0\n[[happenings]]\nat = 5\nkind = 'death'\n")
    outcome = outcome_of(found, simulate(found))
    assert outcome.lost == outcome.back == 100
    assert outcome.missing == 0
    assert outcome.back_p99 is not None
    assert outcome.back_p99 < 2.0
    assert min(outcome.series.nodes_up) == 2
    assert outcome.series.nodes_up[-1] == 3


def test_fleet_paced_clients_come_back_at_the_rate() -> None:
    found = scenario(
        SMALL + "[load]\nstay = 0\n[[happenings]]\nat = 5\nkind = 'blip'\nduration = 0\n",
        {"pacing.rate": 10, "pacing.burst": 1},
    )
    outcome = outcome_of(found, simulate(found))
    # 100 clients on each node at 10 a second.
    assert outcome.back == 300
    assert outcome.back_p99 == pytest.approx(10.0, rel=0.15)
    assert max(outcome.series.admitted) <= 3 * 12


def test_fleet_a_rolling_deploy_restarts_every_node_and_nobody_is_left_out() -> None:
    found = scenario(
        SMALL.replace("60s", "180s") + "[[happenings]]\nat = 5\nkind = 'deploy'\n",
        {"drain.window": 5},
    )
    record = simulate(found)
    assert "the deploy was done" in [what for _, what in record.events]
    assert not record.missing
    assert not record.failed
    assert record.weight * sum(each.lost for each in record.seconds) >= 300


def test_fleet_a_blue_green_deploy_ends_with_the_new_nodes_only() -> None:
    found = scenario(
        SMALL + "[[happenings]]\nat = 5\nkind = 'deploy'\nmode = 'blue-green'\n",
        {"drain.window": 5},
    )
    record = simulate(found)
    assert record.connections[-1][:3] == [0, 0, 0]
    assert sum(record.connections[-1]) == 300


def test_fleet_the_kernel_drops_what_its_queue_cannot_hold() -> None:
    text = SMALL + (
        "[costs]\napplication = 0.05\n[[happenings]]\nat = 5\nkind = 'blip'\nduration = 0\n"
    )
    changes = {"server.backlog": 5, "pacing.enabled": False}
    outcome = outcome_of(scenario(text, changes), simulate(scenario(text, changes)))
    # SYNs are sent again after 1, 3 and 7 s, so clients come back in these steps.
    assert outcome.back == 300
    assert outcome.back_p99 is not None
    assert outcome.back_p99 > 4.0


def test_fleet_autoscaling_adds_nodes_when_the_others_are_busy() -> None:
    found = scenario(
        SMALL + "[load]\nmessages = 200\n[autoscale]\nenabled = true\ninterval = 5\ncpu = 0.2\n"
    )
    outcome = outcome_of(found, simulate(found))
    assert outcome.series.nodes_up[-1] > 3


def test_fleet_limits_over_all_nodes_hold_and_a_dead_node_frees_what_it_held() -> None:
    text = SMALL + "[load]\nstay = 0\n[network]\nbackplane = '5ms'\n"
    text += "[[happenings]]\nat = 10\nkind = 'death'\nrestarts = false\n"
    record = simulate(scenario(text, {"fleet.connections": 240, "fleet.ttl": 5}))
    seconds = [sum(each) for each in record.connections]
    assert max(seconds) == 240
    # A third of them is gone, and comes back when the time to live of its node is over.
    assert seconds[12] == seconds[14] == 160
    assert seconds[-1] == 240
    alone = simulate(scenario(text))
    assert sum(alone.connections[-1]) == 300


def test_fleet_a_zone_that_fails_again_is_away_until_the_last_outage_ends() -> None:
    text = SMALL.replace("nodes = 3", "nodes = 3\nzones = 3") + "".join(
        f"[[happenings]]\nat = {at}\nkind = 'zone-outage'\nduration = 10\n" for at in (5, 12)
    )
    found = scenario(text)
    outcome = outcome_of(found, simulate(found))
    up = outcome.series.nodes_up
    assert (up[3], up[-1]) == (3, 3)
    assert set(up[6:26]) == {2}  # the second ends after 22 s, and a boot takes 5
    assert outcome.missing == 0


def test_fleet_a_leak_ends_in_a_restart() -> None:
    text = SMALL.replace("nodes = 3", "nodes = 3\nmemory = '200MB'")
    found = scenario(text + "[[happenings]]\nat = 1\nkind = 'leak'\nrate = '20MB'\n")
    record = simulate(found)
    assert {why for _, _, why in record.failed} == {"memory"}


def test_fleet_objects_for_many_clients_come_to_the_same_as_one_by_one() -> None:
    few = scenario(
        "[run]\nduration = 120\n[fleet]\nnodes = 5\n[load]\nstay = 0\n"
        "[[clients]]\ncount = 16_000\n"
        "[[happenings]]\nat = 10\nkind = 'blip'\nduration = 3\n",
        {"pacing.rate": 100, "pacing.burst": 40},
    )
    assert few.weight == 1
    one = outcome_of(few, simulate(few))
    for weight in (4, 16):
        coarse = replace(few, run=replace(few.run, exact=0, objects=few.crowd // weight))
        assert coarse.weight == weight
        many = outcome_of(coarse, simulate(coarse))
        assert many.back == pytest.approx(one.back, rel=0.01)
        assert many.back_p50 == pytest.approx(one.back_p50, rel=0.05)
        assert many.back_p99 == pytest.approx(one.back_p99, rel=0.05)
        assert many.refused == pytest.approx(one.refused, rel=0.05)
        assert many.admitted == pytest.approx(one.admitted, rel=0.01)
        assert many.admitted_most == pytest.approx(one.admitted_most, rel=0.1)
