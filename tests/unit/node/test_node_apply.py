"""Settings of a node that change while it runs, and those that need a restart."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.clients import Client, run_guarded
from tests.unit.node.node_world import World, admitted, idle_node, settings_of
from tidegate.core.settings.fields import SettingError
from tidegate.node.native.application import NativeApplication
from tidegate.node.node import Node
from tidegate.wire.codecs import JSON_V1


def test_apply_of_live_settings_puts_them_in_force_and_names_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = idle_node()
    with caplog.at_level("INFO", "tidegate"):
        changed = node.apply({"limits": {"per_ip": 3, "per_room": 7}, "drain": {"window": 2}})
    live, restart = changed
    assert (sorted(live), restart) == (["drain.window", "limits.per_ip", "limits.per_room"], [])
    assert node.settings.limits.per_ip == 3
    (record,) = caplog.records
    assert record.getMessage() == "settings changed"
    assert set(record.settings.split(", ")) == set(live)  # type: ignore[attr-defined]


def test_apply_of_settings_that_need_a_restart_reports_and_leaves_them() -> None:
    node = idle_node()
    before = node.settings
    live, restart = node.apply(
        {
            "server": {"port": 1234, "path": "/other"},
            "limits": {"per_ip": 3},
            "deflate": {"enabled": True},
        }
    )
    assert live == ["limits.per_ip"]
    assert {"server.port", "server.path"} <= set(restart)
    assert node.settings.server == before.server
    assert node.settings.limits.per_ip == 3


def test_apply_of_what_is_in_force_already_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = idle_node()
    before = node.settings
    with caplog.at_level("INFO", "tidegate"):
        assert node.apply({"limits": {"per_ip": before.limits.per_ip}}) == ([], [])
        assert node.apply({}) == ([], [])
    assert node.settings == before
    assert caplog.records == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"limits": {"per_room": 3, "per_ip": -1}}, "limits.per_ip"),
        ({"limits": {"per_room": 3, "per_ipp": 1}}, "per_ipp"),
        ({"limits": {"per_room": 3}, "nothing": {"of": 1}}, "nothing"),
    ],
)
def test_apply_of_a_wrong_setting_changes_nothing_and_names_it(changes: Any, named: str) -> None:
    node = idle_node()
    before = node.settings
    with pytest.raises(SettingError, match=named):
        node.apply(changes)
    assert node.settings is before
    assert node.rooms.per_connection == before.limits.rooms_per_connection


def test_apply_of_a_part_of_settings_that_are_valid_together_is_valid() -> None:
    node = idle_node(shedding={"critical": 0.94})
    assert node.apply({"shedding": {"warning": 0.9}}) == (["shedding.warning"], [])
    node = idle_node(auth={"secret": "a secret of thirty-two bytes, or more"})
    assert node.apply({"auth": {"anonymous": False}}) == ([], ["auth.anonymous"])


@pytest.mark.parametrize(
    ("changes", "value"),
    [
        ({"limits": {"connections": 5}}, lambda node: node.tracker.limit),
        ({"limits": {"rooms_per_connection": 5}}, lambda node: node.rooms.per_connection),
        ({"limits": {"rooms_per_user": 5}}, lambda node: node.rooms._per_user),
        ({"server": {"close_timeout": 5}}, lambda node: node.engine.shared.close_timeout),
        ({"server": {"handshake_timeout": 5}}, lambda node: node.engine.shared.handshake_timeout),
        ({"heartbeat": {"timeout": 5}}, lambda node: node.engine.shared.heartbeat_timeout),
        ({"outbox": {"max_age": 5}}, lambda node: node.engine.shared.outbox.max_age),
        ({"drain": {"window": 5}}, lambda node: node.shutdown._settings.drain.window),
        (
            {"zones": {"ping_interval": [5, 60, 120]}},
            lambda node: node.shedder._profiles[1].ping_interval,
        ),
        ({"waiting_room": {"max_wait": 5}}, lambda node: node.waiting._max_wait),
        ({"auth": {"timeout": 5}}, lambda node: node._identities._timeout),
    ],
)
def test_apply_reaches_every_part_of_the_node(
    changes: dict[str, dict[str, object]], value: Callable[[Node], float]
) -> None:
    node = idle_node(
        server={"close_timeout": 3, "handshake_timeout": 3},
        auth={"timeout": 3},
        heartbeat={"interval": 3, "timeout": 3},
    )
    assert value(node) != 5
    live, restart = node.apply(changes)
    assert (len(live), restart) == (1, [])
    assert value(node) == 5


def test_apply_of_another_limit_decides_the_next_attempt() -> None:
    async def main() -> None:
        async with World() as world:
            await world.open()
            world.node.apply({"limits": {"per_ip": 1}})
            assert await world.status() == (429, "ip_limit")
            world.node.apply({"limits": {"per_ip": 2}})
            assert await world.status() == (101, None)
            world.node.apply({"limits": {"connections": 1, "per_ip": 100}})
            assert await world.status() == (503, "server_limit")
            assert len(list(world.node.connections)) == 2  # those that are open stay

    run_guarded(main())


def test_apply_of_another_rate_is_in_force_for_open_connections() -> None:
    async def main() -> None:
        async with World(messages={"per_second": 0}) as world:
            client = await world.open()
            await client.say(*(str(number) for number in range(100)))
            for _ in range(100):
                await client.text()
            assert world.node.stats.messages_limited["delayed"] == 0
            world.node.apply({"messages": {"per_second": 100, "burst": 5}})
            await client.say(*(str(number) for number in range(10)))
            assert [await client.text() for _ in range(10)] == [str(n) for n in range(10)]
            assert world.node.stats.messages_limited["delayed"] > 0

    run_guarded(main())


def test_apply_of_more_connections_admits_those_that_wait() -> None:
    async def main() -> None:
        node = Node(
            settings_of(limits={"connections": 1}, waiting_room={"enabled": True}),
            NativeApplication,
        )
        await node.start()
        port = node.addresses[0][1]
        first, second = [await Client.open(port, JSON_V1) for _ in range(2)]
        assert json.loads(await second.text())["type"] == "queue_status"
        node.apply({"limits": {"connections": 2}})
        await admitted(second)
        first.leave()
        second.leave()
        await node.stop()

    run_guarded(main())


def test_apply_of_another_heartbeat_pings_open_connections_at_it() -> None:
    async def main() -> None:
        async with World() as world:
            client = await world.open()
            world.node.apply({"heartbeat": {"interval": 0.1}})
            assert (await client.frame()).opcode == 9

    run_guarded(main())


def test_apply_of_room_rules_puts_them_in_force_at_once() -> None:
    node = idle_node()
    assert node.access.may_join("staff", "ann", None)
    closed = {"pattern": "staff", "join": "nobody"}
    live, restart = node.apply({"rooms": {"rules": [closed]}})
    assert (live, restart) == (["rooms.rules"], [])
    assert not node.access.may_join("staff", "ann", None)
    node.apply({"rooms": {"rules": []}})
    assert node.access.may_join("staff", "ann", None)
