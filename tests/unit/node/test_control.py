"""Control: status, counters, decisions explained, refusals and drains of a node."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import to_builtins

from tests.support.clients import run_guarded, until
from tests.unit.node.control_world import World
from tidegate.core.codes import IP_LIMIT, RATE_LIMITED
from tidegate.core.settings.fields import SettingError
from tidegate.errors import UsageError
from tidegate.node.control import ConnectionsQuery, ExplainQuery

# Status.


def test_status_of_a_node_that_runs_is_ready() -> None:
    async def main() -> None:
        async with World() as world:
            status = world.control.status()
            assert (status.ready, status.reason) == (True, "")
            assert status.addresses == tuple(world.node.addresses)
            assert 0 <= status.uptime < 5
            assert status.version == world.node.version

    run_guarded(main())


def test_status_before_the_start_and_while_draining_says_why() -> None:
    async def main() -> None:
        world = World()
        before = world.control.status()
        assert (before.ready, before.reason) == (False, "not listening")
        assert (before.uptime, before.addresses) == (0.0, ())
        async with world:
            await world.open()
            world.control.drain(30.0)
            draining = world.control.status()
            assert (draining.ready, draining.reason) == (False, "draining")

    run_guarded(main())


# Counters.


def shape(value: Any) -> Any:
    """The keys of nested mappings, without those of counters by name."""
    return {key: shape(of) if isinstance(of, dict) else None for key, of in value.items()}


def test_snapshot_has_the_keys_of_stats() -> None:
    async def main() -> None:
        async with World() as world:
            found = to_builtins(world.control.snapshot())
            counters = ("rejections", "disconnections", "dryRun", "waited")
            assert all(isinstance(found.pop(name), dict) for name in counters)
            found["load"].pop("pressures")
            assert shape(found) == {
                "connections": dict.fromkeys(
                    (
                        *("current", "peak", "limit", "utilization", "uniqueIps", "uniqueUsers"),
                        *("accepted", "rejected"),
                    )
                ),
                "messages": {
                    **dict.fromkeys(("received", "sent", "bytesReceived", "bytesSent")),
                    "limited": dict.fromkeys(("refused", "delayed")),
                    "dropped": dict.fromkeys(("drop_oldest", "drop_newest")),
                },
                "rooms": None,
                "load": dict.fromkeys(("zone", "since", "pressure", "driver", "acts")),
                "waiting": dict.fromkeys(("now", "kept")),
            }

    run_guarded(main())


def test_snapshot_counts_what_happened() -> None:
    async def main() -> None:
        async with World(limits={"connections": 4, "per_ip": 2}) as world:
            await world.open("ann", "192.0.2.1", room="lobby")
            await world.open("ann", "192.0.2.1")
            await world.open(None, "192.0.2.2")
            assert "ip_limit" in await world.refusal("bob", "192.0.2.1")
            found = world.control.snapshot()
            connections = found.connections
            assert (connections.current, connections.peak, connections.limit) == (3, 3, 4)
            assert connections.utilization == 0.75
            assert (connections.unique_ips, connections.unique_users) == (2, 1)
            assert (connections.accepted, connections.rejected) == (3, 1)
            assert found.rejections["ip_limit"] == 1
            assert (found.messages.received, found.rooms) == (1, 1)
            assert found.load.zone == "normal"

    run_guarded(main())


def test_an_ipv6_network_counts_as_one_address_and_shows_each() -> None:
    async def main() -> None:
        async with World(limits={"per_ip": 2}) as world:
            for number in (1, 2):
                await world.open(ip=f"2001:db8::{number}")
            for number in range(3, 100):
                assert "ip_limit" in await world.refusal(ip=f"2001:db8::{number:x}")
            await world.open(ip="2001:db8:0:1::1")
            assert world.control.snapshot().connections.unique_ips == 2
            page = await world.control.connections(ConnectionsQuery(ip="2001:db8::/64"))
            assert [row.address for row in page.connections] == ["2001:db8::1", "2001:db8::2"]
            explained = await world.control.explain(ExplainQuery(ip="2001:db8::99"))
            assert (explained.outcome, explained.by) == ("reject", "per_ip")
            assert world.control.refusals()[0].ip == "2001:db8::63"

    run_guarded(main())


def test_snapshot_counts_clients_that_wait() -> None:
    async def main() -> None:
        full = World(limits={"connections": 1}, waiting_room={"enabled": True})
        async with full:
            await full.open()
            await full.knock(ip="192.0.2.2")
            await until(lambda: full.control.snapshot().waiting.now == 1)
            assert full.control.snapshot().waited["entered"] == 1

    run_guarded(main())


# Decisions.


@pytest.mark.parametrize(
    ("query", "sections", "outcome", "by"),
    [
        ({}, {}, "admit", None),
        ({"ip": "192.0.2.1"}, {"limits": {"per_ip": 1}}, "reject", "per_ip"),
        ({"ip": "::ffff:192.0.2.1"}, {"limits": {"per_ip": 1}}, "reject", "per_ip"),
        ({"ip": "192.0.2.2"}, {"limits": {"per_ip": 1}}, "admit", None),
        ({"user": "ann"}, {"limits": {"connections": 1}}, "wait", "connections"),
        ({"tier": "gold"}, {"tiers": {"gold": {"connections": 0}}}, "reject", "tiers"),
    ],
)
def test_explain_says_what_would_be_decided_and_takes_nothing(
    query: Any, sections: Any, outcome: str, by: str | None
) -> None:
    async def main() -> None:
        async with World(**sections, waiting_room={"enabled": True}) as world:
            await world.open(ip="192.0.2.1")
            explanation = await world.control.explain(ExplainQuery(**query))
            assert (explanation.outcome, explanation.by) == (outcome, by)
            assert all(step.detail for step in explanation.steps)
            assert world.node.tracker.open == 1

    run_guarded(main())


def test_explain_repeats_the_attempt_with_the_address_as_it_is_counted() -> None:
    query = ExplainQuery(ip="2001:DB8:0::1", user="ann", tier="gold", priority=7)
    assert query == ExplainQuery(ip="2001:db8::1", user="ann", tier="gold", priority=7)
    with pytest.raises(UsageError, match='ip: "nowhere" is not an IP address'):
        ExplainQuery(ip="nowhere")


def test_refusals_begin_with_the_newest() -> None:
    async def main() -> None:
        async with World(
            limits={"per_ip": 1}, pacing={"rate": 1.0, "burst": 1}, auth={"anonymous": True}
        ) as world:
            await world.open("ann", "192.0.2.1")
            assert "ip_limit" in await world.refusal("ann", "192.0.2.1")
            assert "rate_limited" in await world.refusal("bob", "192.0.2.2")
            newest, oldest = world.control.refusals()
            assert (newest.ip, newest.reason, newest.message, newest.limit) == (
                "192.0.2.2",
                "rate_limited",
                RATE_LIMITED.message,
                None,
            )
            assert newest.retry_after is not None
            assert newest.retry_after >= 1
            assert (oldest.ip, oldest.reason, oldest.message) == (
                "192.0.2.1",
                "ip_limit",
                IP_LIMIT.message,
            )
            assert (oldest.limit, oldest.retry_after) == (1, IP_LIMIT.retry_after)
            assert oldest.at <= newest.at

    run_guarded(main())


# Drains.


def test_drain_begins_once_and_shows_how_far_it_is() -> None:
    async def main() -> None:
        async with World(drain={"window": 30.0}) as world:
            assert world.control.drain_progress() is None
            assert not world.control.drain_watched
            for _ in range(3):
                await world.open()
            begun = world.control.drain()
            assert (begun.draining, begun.over, begun.total, begun.open) == (True, False, 3, 3)
            assert (begun.window, begun.told, begun.closed) == (30.0, 0, 0)
            again = world.control.drain(5.0)
            assert again.window == 30.0
            shown = world.control.drain_progress()
            assert shown is not None
            assert shown.left <= 35.0

    run_guarded(main())


def test_drain_is_watched_from_the_first_look() -> None:
    async def main() -> None:
        async with World() as world:
            await world.open()
            world.node.shutdown.begin_drain(30.0)
            assert not world.control.drain_watched
            world.control.drain_progress()
            assert world.control.drain_watched

    run_guarded(main())


@pytest.mark.parametrize("window", [-1, 3601, float("nan"), float("inf")])
def test_drain_with_a_wrong_window_begins_nothing(window: float) -> None:
    async def main() -> None:
        async with World() as world:
            with pytest.raises(SettingError, match=r"drain\.window = "):
                world.control.drain(window)
            assert world.control.drain_progress() is None
            assert world.control.status().ready

    run_guarded(main())
