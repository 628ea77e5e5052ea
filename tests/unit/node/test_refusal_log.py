"""Refusals in the log: a line a second for each reason, with a count and the last example."""

from __future__ import annotations

import logging

import pytest

from tidegate.core.admission.attempt import Attempt, Identity, Reject
from tidegate.core.codes import BAD_REQUEST, IP_LIMIT, ORIGIN
from tidegate.core.stats import Stats
from tidegate.gate.refusals import Refusals
from tidegate.node.refusal_log import RefusalLog

KNOWN = (
    "reason",
    "count",
    "detail",
    "address",
    "user",
    "path",
    "host",
    "origin",
    "subprotocols",
    "user_agent",
)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    found = []
    for record in caplog.records:
        assert record.getMessage() == "refused"
        found.append({name: getattr(record, name) for name in KNOWN if hasattr(record, name)})
    caplog.clear()
    return found


def test_each_reason_has_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tidegate")
    refusals = Refusals(Stats())
    log = RefusalLog(refusals)
    log.tick(1000.0)
    assert lines(caplog) == []
    for number in range(500):
        attempt = Attempt(f"192.0.2.{number % 250}", "/ws", Identity("ann"))
        refusals.add(attempt, Reject(IP_LIMIT, 10, 5), 1.0)
    refusals.note(BAD_REQUEST, 2.0, "192.0.2.9", detail="this is not an HTTP request")
    log.tick(1000.9)
    assert lines(caplog) == []
    log.tick(1001.0)
    assert lines(caplog) == [
        {
            "reason": "ip_limit",
            "count": 500,
            "address": "192.0.2.249",
            "user": "ann",
            "path": "/ws",
        },
        {
            "reason": "bad_request",
            "count": 1,
            "detail": "this is not an HTTP request",
            "address": "192.0.2.9",
        },
    ]
    log.tick(1003.0)
    assert lines(caplog) == []
    refusals.note(BAD_REQUEST, 2.0, "192.0.2.8")
    log.tick(1004.0)
    assert lines(caplog) == [{"reason": "bad_request", "count": 1, "address": "192.0.2.8"}]


def test_the_example_is_cut_and_has_no_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tidegate")
    refusals = Refusals(Stats())
    headers = {
        "host": "h" * 999,
        "origin": "o" * 999,
        "sec-websocket-protocol": "tidegate.v1.json,tidegate.token.swordfish, b",
        "user-agent": "u" * 999,
        "authorization": "Bearer swordfish",
    }
    refusals.add(Attempt("192.0.2.1", "/" * 999), Reject(ORIGIN, None), 1.0, headers)
    RefusalLog(refusals).write()
    (line,) = lines(caplog)
    assert line == {
        "reason": "origin",
        "count": 1,
        "address": "192.0.2.1",
        "path": "/" * 200,
        "host": "h" * 200,
        "origin": "o" * 200,
        "subprotocols": "tidegate.v1.json, tidegate.token.********, b",
        "user_agent": "u" * 200,
    }
