from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from tests.support.policies import with_a_line

from tidegate.core.admission.attempt import ANONYMOUS, Attempt, Lease
from tidegate.core.codes import IP_LIMIT, RATE_LIMITED
from tidegate.core.settings import Settings
from tidegate.node.gate import Refusal
from tidegate.node.native import NativeServer
from tidegate.server.explaining import explanation, last_refusals


def ask(query: str, **sections: Any) -> dict[str, Any]:
    node = NativeServer(Settings.from_mapping(with_a_line(sections)))
    lease = node.admission.admit(Attempt("192.0.2.1", "/ws", ANONYMOUS), 0.0)
    assert isinstance(lease, Lease)
    try:
        return explanation(node, QueryParams(query))
    finally:
        assert node.tracker.open == 1, "it took something"
        node.engine.poller.close()


@pytest.mark.parametrize(
    ("query", "sections", "outcome", "by"),
    [
        ("", {}, "admit", None),
        ("ip=192.0.2.1", {"limits": {"per_ip": 1}}, "reject", "per_ip"),
        ("ip=::ffff:192.0.2.1", {"limits": {"per_ip": 1}}, "reject", "per_ip"),
        ("ip=192.0.2.2", {"limits": {"per_ip": 1}}, "admit", None),
        ("user=ann", {"limits": {"connections": 1}}, "wait", "connections"),
        ("tier=gold", {"tiers": {"gold": {"connections": 0}}}, "reject", "tiers"),
    ],
)
def test_explanation(query: str, sections: Any, outcome: str, by: str | None) -> None:
    answer = ask(query, **sections)
    assert (answer["outcome"], answer["by"]) == (outcome, by)
    assert all(set(step) == {"name", "passed", "detail", "numbers"} for step in answer["steps"])
    assert all(step["detail"] for step in answer["steps"])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("ip=nowhere", 'ip: "nowhere" is not an IP address'),
        ("priority=101", 'priority: "101" is not a whole number from 0 to 100'),
        ("priority=-1", 'priority: "-1" is not a whole number from 0 to 100'),
        ("user=a&user=b", "user: given twice"),
        ("colour=red", 'unknown parameter "colour"; there are ip, user, tier, priority'),
    ],
)
def test_wrong_questions(query: str, said: str) -> None:
    with pytest.raises(HTTPException) as caught:
        ask(query)
    assert caught.value.status_code == 400
    assert caught.value.detail == said


def test_the_last_refusals_begin_with_the_newest() -> None:
    refusals = [
        Refusal(1.0, "192.0.2.1", None, None, IP_LIMIT, 10, 100),
        Refusal(2.0004, "192.0.2.2", "ann", "gold", RATE_LIMITED, 7, None),
    ]
    node: Any = SimpleNamespace(gate=SimpleNamespace(refusals=refusals))
    found = last_refusals(node)["refusals"]
    assert found[0] == {
        "at": 2.0,
        "ip": "192.0.2.2",
        "user": "ann",
        "tier": "gold",
        "reason": "rate_limited",
        "message": RATE_LIMITED.message,
        "retryAfter": 7,
        "limit": None,
    }
    assert found[1]["reason"] == "ip_limit"
