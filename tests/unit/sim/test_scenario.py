from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.sim.worlds import scenario
from tidegate.errors import ConfigError
from tidegate.sim.scenario import OFF, load, parse, ready


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[fleet]\nnodes = 0", "fleet.nodes = 0: must be a whole number from 1 to 10,000"),
        ("[fleet]\nnode = 3", "fleet.node: there is no such setting; did you mean fleet.nodes"),
        ('[fleet]\nboot = "soon"', 'fleet.boot = "soon": must be a number from 0 to 3,600'),
        ('[balancer]\nalgorithm = "x"', 'algorithm = "x": must be one of "round-robin"'),
        ("[[clients]]\n[[clients]]\ncount = 0", "clients[2].count = 0: must be 1 or more"),
        ('[[clients]]\nbehaviour = "curl"', 'behaviour = "curl": must be one of "tidegate"'),
        ('[[happenings]]\nkind = "rain"', 'happenings[1].kind = "rain": must be one of "death"'),
        ("[clients]\ncount = 1", "clients = {'count': 1}: must be a list of sections, [[clients]]"),
        ("[sett]", "sett: there is no such section; did you mean set"),
        ("name = 5", "name = 5: must be a text"),
        ('[set]\n"pacing.rate" = -1', "pacing.rate = -1: must be a number from 0.1"),
        ('[set]\n"pacing.rat" = 1', "pacing.rat: there is no such setting"),
        ("set = 1", "set = 1: must be a section of settings"),
        ("a = ", "test: this is not TOML"),
        ("[[happenings]]\nkind = 'zone-outage'\nzone = 2", "happenings[1].zone = 2: "),
    ],
)
def test_scenario_a_mistake_is_named_with_what_is_allowed(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scenario(text)
    assert expected in str(caught.value)


def test_scenario_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        scenario("[fleet]\nnodes = 0\n[load]\ntls = 2")
    assert str(caught.value).count("\n") == 1


def test_scenario_takes_the_settings_of_production(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text("[pacing]\nrate = 700\nburst = 7\n")
    text = 'settings = "tidegate.toml"\n[set]\npacing.rate = 800\n'
    found = parse(text, "x", tmp_path, {"limits.per_ip": 9})
    assert found.settings.pacing.rate == 800
    assert found.settings.pacing.burst == 7
    assert found.settings.limits.per_ip == 9


def test_scenario_another_settings_file_comes_in_its_place(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[pacing]\nrate = 600\n")
    assert (
        parse('settings = "none.toml"', "x", tmp_path, settings=other).settings.pacing.rate == 600
    )


def test_scenario_a_settings_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: the file cannot be read: No such file"):
        parse('settings = "none.toml"', "x", tmp_path)


def test_scenario_costs_come_from_a_file_and_own_ones_win(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text(
        '{"schema": 1, "bytes_per_connection": 1000, "cpu_per_connect": 0.001,'
        ' "cpu_per_message": 0.1, "cpu_per_delivery": 0.2}'
    )
    found = parse('[costs]\nfile = "costs.json"\ncpu_per_message = 0.3', "x", tmp_path).costs
    assert (found.cpu_per_connect, found.cpu_per_message) == (0.001, 0.3)
    assert found.cpu_per_tls_handshake is not None


def test_scenario_costs_that_are_wrong_are_named(tmp_path: Path) -> None:
    (tmp_path / "costs.json").write_text('{"schema": 1}')
    with pytest.raises(ConfigError, match=r"costs\.file costs\.json: "):
        parse('[costs]\nfile = "costs.json"', "x", tmp_path)


def test_load_a_name_that_is_none_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="deploy-at-peak"):
        load("nothing")


def test_ready_every_scenario_can_be_loaded_and_says_what_it_is_about() -> None:
    names = ready()
    assert len(names) >= 5
    for name, about in names.items():
        assert load(name).about == about
        assert load(name).happenings


@pytest.mark.parametrize(
    ("count", "weight"), [(1, 1), (100_000, 1), (100_001, 6), (10_000_000, 500)]
)
def test_scenario_clients_are_exact_up_to_a_hundred_thousand(count: int, weight: int) -> None:
    assert scenario(f"[[clients]]\ncount = {count}").weight == weight


def test_scenario_large_fleets_have_more_objects() -> None:
    text = "[fleet]\nnodes = 1000\n[[clients]]\ncount = 10_000_000"
    assert scenario(text).weight == 100


def test_with_settings_off_leaves_no_policy_on() -> None:
    found = scenario("", {"shedding.enabled": True}).with_settings(OFF)
    settings = found.settings
    assert not settings.pacing.enabled
    assert not settings.shedding.enabled
    assert settings.drain.window == 0
