"""Control: the settings in force, and changes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.clients import run_guarded
from tests.support.tokens import SECRET
from tests.unit.node.control_world import World
from tidegate.core.settings import Settings
from tidegate.core.settings.fields import SettingError
from tidegate.node.control import Applied
from tidegate.node.control.settings import MASK

Changes = Mapping[str, Mapping[str, object]]


def value(world: World, name: str) -> Any:
    return world.control.settings().settings[name].value


def test_settings_are_all_there_are_and_say_which_are_live() -> None:
    async def main() -> None:
        async with World(tiers={"free": {"per_user": 2}}) as world:
            found = world.control.settings().settings
            known = {each.name: each for each in Settings.fields()}
            assert found.keys() == {
                *(name for name in known if "*" not in name),
                *(name.replace("*", "free") for name in known if "*" in name),
            }
            for name, setting in found.items():
                assert setting.live is known[name.replace("tiers.free", "tiers.*")].live, name
            assert (found["limits.per_ip"].value, found["limits.per_ip"].live) == (100, True)
            assert (found["server.host"].value, found["server.host"].live) == (
                ("127.0.0.1",),
                False,
            )
            assert found["proxies.trusted"].value == ("127.0.0.1",)
            assert found["tiers.free.per_user"].value == 2
            assert found["tiers.free.connections"].value is None

    run_guarded(main())


def test_settings_mask_secrets() -> None:
    async def main() -> None:
        async with World() as world:
            view = world.control.settings()
            assert SECRET not in str(view)
            assert view.settings["auth.secret"].value == MASK
            assert view.settings["admin.token"].value is None
            secrets = {each.name for each in Settings.fields() if each.secret}
            shown = {name for name, each in view.settings.items() if each.value == MASK}
            assert shown == {"auth.secret"} <= secrets

    run_guarded(main())


@pytest.mark.parametrize(
    ("changes", "applied", "restart"),
    [
        ({}, [], []),
        ({"limits": {"per_ip": 100}}, [], []),
        ({"limits": {"per_ip": 5}}, ["limits.per_ip"], []),
        ({"server": {"backlog": 9}}, [], ["server.backlog"]),
        (
            {"limits": {"per_ip": 5, "per_user": 3}, "server": {"host": "::1", "close_timeout": 1}},
            ["limits.per_ip", "limits.per_user", "server.close_timeout"],
            ["server.host"],
        ),
        ({"tiers": {"free": {"per_user": 1}}}, ["tiers.free.per_user"], []),
        ({"tiers": {"new": {"per_user": 1}}}, [], ["tiers.new"]),
    ],
)
def test_apply_says_what_it_did_and_what_needs_a_restart(
    changes: Changes, applied: list[str], restart: list[str]
) -> None:
    async def main() -> None:
        async with World(tiers={"free": {"per_user": 2}}) as world:
            before = world.control.settings().settings
            done = world.control.apply(changes)
            assert (sorted(done.applied), done.restart) == (sorted(applied), restart)
            after = world.control.settings().settings
            changed = {name for name in after if after[name] != before.get(name)}
            assert changed == set(applied)

    run_guarded(main())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limits": {"per_ip": -1}}, "limits.per_ip = -1: must be a whole number from 0"),
        ({"limits": {"per_ip": "5"}}, 'limits.per_ip = "5": must be a whole number'),
        ({"limits": {"per_ipp": 5}}, "limits.per_ipp: there is no such setting; did you mean"),
        ({"limit": {"per_ip": 5}}, "limit: there is no such section; did you mean limits"),
        ({"limits": 5}, "limits = 5: must be a section with settings in it"),
        ({"tiers": {"free": 5}}, "tiers.free = 5: must be a section"),
        ({"auth": {"secret": "short"}}, "auth.secret: must be"),
    ],
)
def test_apply_with_one_wrong_setting_changes_nothing(changes: Any, said: str) -> None:
    async def main() -> None:
        async with World() as world:
            before = world.control.settings()
            with pytest.raises(SettingError) as caught:
                world.control.apply({"heartbeat": {"interval": 7.0}, **changes})
            assert str(caught.value).startswith(said)
            assert world.control.settings() == before

    run_guarded(main())


# In force.


def test_a_lower_limit_is_in_force_at_once_and_closes_nobody() -> None:
    async def main() -> None:
        async with World() as world:
            for _ in range(3):
                await world.open(ip="192.0.2.1")
            assert world.control.apply({"limits": {"per_ip": 2}}) == Applied(["limits.per_ip"], [])
            assert value(world, "limits.per_ip") == 2
            assert "ip_limit" in await world.refusal(ip="192.0.2.1")
            assert world.node.tracker.open == 3
            await world.open(ip="192.0.2.2")
            world.control.apply({"limits": {"connections": 4}})
            assert world.control.snapshot().connections.limit == 4
            assert "server_limit" in await world.refusal(ip="192.0.2.3")
            world.control.apply({"limits": {"connections": 5, "per_ip": 4}})
            await world.open(ip="192.0.2.1")

    run_guarded(main())


def test_a_new_heartbeat_interval_is_told_and_pings_open_connections() -> None:
    async def main() -> None:
        async with World(heartbeat={"interval": 3600.0}) as world:
            client = await world.open()
            world.control.apply({"heartbeat": {"interval": 1.0}})
            assert value(world, "heartbeat.interval") == 1.0
            pinged = told = False
            while not (pinged and told):
                frame = await client.frame()
                pinged = pinged or frame.opcode == 9
                if frame.opcode == 1:
                    message = json.loads(frame.payload)
                    told = told or message["type"] == "system"
                    assert message["settings"]["pingInterval"] == 1.0

    run_guarded(main())


def test_a_new_rate_is_in_force_for_open_connections() -> None:
    async def main() -> None:
        async with World() as world:
            client = await world.open()
            world.control.apply({"messages": {"per_second": 1.0, "burst": 1}})
            assert value(world, "messages.per_second") == 1.0
            for number in range(20):
                await client.say(f'{{"type":"leave","room":"lobby","id":{number}}}')
            errors = set()
            while "message_rate" not in errors:
                message = json.loads(await client.text())
                errors.add(message.get("code"))

    run_guarded(main())
