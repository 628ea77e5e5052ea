"""Control by value: every argument and result is the same after a way through JSON."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.aio import run
from tests.unit.node.control_world import World
from tidegate.errors import UsageError
from tidegate.node.control import (
    Applied,
    ConnectionsQuery,
    Disconnected,
    Distribution,
    ExplainQuery,
    Metric,
    RefusedRow,
    Selector,
)


def again(value: Any, kind: Any = None) -> Any:
    """A value as it comes out at the other end of a pipe."""
    return msgspec.json.decode(msgspec.json.encode(value), type=kind or type(value))


@pytest.mark.parametrize(
    "value",
    [
        ConnectionsQuery(),
        ConnectionsQuery(limit=1000, after=str(2**63 - 1), user="ann", ip="::1", room="lobby"),
        ExplainQuery(),
        ExplainQuery(ip="::ffff:192.0.2.1", user="ann", tier="gold", priority=100),
        Selector(id="n-1"),
        Selector(id="n-1", user="ann", ip="192.0.2.1", room="lobby"),
        Applied(["limits.per_ip"], ["server.port"]),
        Disconnected(3),
        Distribution((0.5, 1.0), (1, 2, 3), 4.5),
    ],
)
def test_values_are_the_same_after_json(value: Any) -> None:
    assert again(value) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Selector, "{}"),
        (Selector, '{"ip": "nowhere"}'),
        (Selector, '{"usr": "ann"}'),
        (ConnectionsQuery, '{"limit": 0}'),
        (ConnectionsQuery, '{"limit": 1001}'),
        (ConnectionsQuery, '{"after": -1}'),
        (ConnectionsQuery, '{"rooms": "lobby"}'),
        (ExplainQuery, '{"priority": 101}'),
        (ExplainQuery, '{"ip": ""}'),
    ],
)
def test_wrong_arguments_are_refused_at_the_other_end(kind: Any, text: str) -> None:
    with pytest.raises((msgspec.ValidationError, UsageError)):
        msgspec.json.decode(text, type=kind)


def test_results_are_the_same_after_json() -> None:
    async def main() -> None:
        async with World(
            limits={"per_ip": 2}, tiers={"gold": {"reserved": 0.1}}, drain={"window": 30.0}
        ) as world:
            control = world.control
            await world.open("ann", room="lobby")
            await world.open(None)
            await world.refusal()
            page = await control.connections(ConnectionsQuery(limit=1))
            assert len(page.connections) == 1
            assert page.next is not None
            assert control.refusals()
            for value, kind in (
                (control.status(), None),
                (control.snapshot(), None),
                (control.metrics(), list[Metric]),
                (control.settings(), None),
                (await control.explain(ExplainQuery()), None),
                (control.refusals(), list[RefusedRow]),
                (page, None),
                (control.drain(), None),
            ):
                assert again(value, kind) == value

    run(main())
