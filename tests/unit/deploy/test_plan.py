from __future__ import annotations

import pytest

from tests.support.deploying import NODES, SECRETS, plan
from tidegate.deploy import Node, parse_node, parse_nodes
from tidegate.deploy.plan import variable
from tidegate.engine.descriptors import Shares
from tidegate.errors import UsageError
from tidegate.server.environment import environment_name, setting_of


@pytest.mark.parametrize(
    ("text", "node", "shown"),
    [
        ("10.0.0.5:9000", Node("10.0.0.5", 9000), "10.0.0.5:9000"),
        ("10.0.0.5", Node("10.0.0.5", 8000), "10.0.0.5:8000"),
        ("node-1", Node("node-1", 8000), "node-1:8000"),
        ("node-1.example.com:1", Node("node-1.example.com", 1), "node-1.example.com:1"),
        ("[::1]:9000", Node("::1", 9000), "[::1]:9000"),
        ("[::1]", Node("::1", 8000), "[::1]:8000"),
        ("2001:db8::5", Node("2001:db8::5", 8000), "[2001:db8::5]:8000"),
        ("a=10.0.0.5:9000", Node("10.0.0.5", 9000, "a"), "10.0.0.5:9000"),
        ("node-1=node-1", Node("node-1", 8000, "node-1"), "node-1:8000"),
        ("b=[::1]", Node("::1", 8000, "b"), "[::1]:8000"),
    ],
)
def test_a_node_is_read_in_every_spelling(text: str, node: Node, shown: str) -> None:
    assert parse_node(text, 8000) == node
    assert str(node) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":8000",
        "a:",
        "a:b",
        "a:0",
        "a:65536",
        "a:-1",
        "a b:1",
        "a\n:1",
        "http://a:1",
        "a:²",
        "@x@",
        "=a:1",
        "a b=a:1",
        "a;=a:1",
        "a=b=c:1",
        "a=",
    ],
)
def test_what_is_no_node_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--node"):
        parse_node(text, 8000)


def test_nodes_have_routes_all_or_none_and_each_its_own() -> None:
    assert parse_nodes(["a=x:1", "b=y:2"], 8000) == (Node("x", 1, "a"), Node("y", 2, "b"))
    assert parse_nodes(["x:1", "x:1"], 8000) == (Node("x", 1),) * 2
    with pytest.raises(UsageError, match="all nodes a route"):
        parse_nodes(["a=x:1", "y:2"], 8000)
    with pytest.raises(UsageError, match="different"):
        parse_nodes(["a=x:1", "A=y:2"], 8000)


@pytest.mark.parametrize("connections", [0, 1, 100, 832, 10_000, 57_280, 100_000, 1_000_000])
def test_the_descriptors_are_enough_for_the_connections(connections: int) -> None:
    limit = plan().holding(connections).descriptors
    assert Shares.of(limit).connections >= connections
    assert limit <= max(1024, connections * 1.2 + 9000)


def test_memory_grows_with_connections_and_buffers() -> None:
    small = plan({"limits": {"connections": 1000}}).memory
    assert small % 64 == 0
    assert plan({"limits": {"connections": 101_000}}).memory - small >= 100_000 * 12 // 1024 - 64
    more = plan({"limits": {"connections": 1000}, "buffers": {"max_bytes": 1 << 30}}).memory
    assert more >= small + 1024 - 128 - 64
    tls = {"certificate": "/c.pem", "key": "/k.pem"}
    over_tls = plan({"limits": {"connections": 101_000}, "tls": tls}).memory
    assert over_tls >= plan({"limits": {"connections": 101_000}}).memory + 1500


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({}, 40),
        ({"drain": {"window": 90.5}, "server": {"close_timeout": 2}}, 98),
        ({"drain": {"on_sigterm": False}, "server": {"shutdown_timeout": 7}}, 12),
    ],
)
def test_a_node_gets_the_time_that_its_end_takes(
    settings: dict[str, dict[str, object]], seconds: int
) -> None:
    assert plan(settings).drain_seconds == seconds


@pytest.mark.parametrize(
    ("settings", "least"),
    [
        ({}, 2 * 120 + 10),
        ({"zones": {"ping_interval": []}}, 2 * 30 + 10),
        ({"heartbeat": {"interval": 300, "timeout": 20}}, 2 * 300 + 20),
    ],
)
def test_a_proxy_waits_for_more_than_two_pings(
    settings: dict[str, dict[str, object]], least: int
) -> None:
    assert plan(settings).silence == least


def test_variables_are_those_that_the_server_reads() -> None:
    made = plan(
        {
            **SECRETS,
            "limits": {"per_ip": 5, "dry_run": ["pacing", "messages"]},
            "drain": {"on_sigterm": False},
            "tiers": {"free": {"connections": 5}},
        }
    )
    changed = dict(made.changed)
    assert changed == {
        "TIDEGATE_LIMITS_PER_IP": "5",
        "TIDEGATE_LIMITS_DRY_RUN": '["pacing", "messages"]',
        "TIDEGATE_DRAIN_ON_SIGTERM": "false",
        "TIDEGATE_WAITING_ROOM_ENABLED": "true",
        "TIDEGATE_TIERS_FREE_CONNECTIONS": "5",
    }
    assert all(setting_of(name) for name in changed)
    assert list(made.secrets) == ["admin.token", "waiting_room.secret", "auth.secret"]
    assert variable("admin.token") == environment_name("admin.token")


def test_connections_of_all_nodes() -> None:
    assert plan().all_connections == 10_000 * len(NODES)
