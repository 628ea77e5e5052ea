"""What an answer of the server API means: a result, an error, or another try."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tidegate.api import (
    ApiError,
    InvalidRequest,
    NotTaken,
    Published,
    TokenRefused,
    Unavailable,
    Unreachable,
    calls,
    lists,
)
from tidegate.api.answers import delay, result
from tidegate.api.values import Answer, Call, NoAnswer
from tidegate.errors import UsageError

PUBLISH = calls.publish("lobby", 1)
KICK = calls.disconnect(user="ann")
READ = lists.rooms()
READY = calls.ready()


@pytest.mark.parametrize(
    ("call", "answer", "again"),
    [
        # What was lost is sent again only where that does nothing more.
        (PUBLISH, NoAnswer("reset", sent=True), True),
        (READ, NoAnswer("reset", sent=True), True),
        (KICK, NoAnswer("reset", sent=True), False),
        (KICK, NoAnswer("refused", sent=False), True),
        # Not done, and said so.
        (PUBLISH, Answer(503, b""), True),
        (KICK, Answer(503, b""), True),
        (KICK, Answer(429, b""), True),
        # A proxy does not know.
        (READ, Answer(502, b""), True),
        (READ, Answer(504, b""), True),
        (KICK, Answer(502, b""), False),
        # The same again has the same outcome.
        (PUBLISH, Answer(200, b"{}"), False),
        (READ, Answer(400, b""), False),
        (READ, Answer(401, b""), False),
        (PUBLISH, Answer(409, b""), False),
        (PUBLISH, Answer(422, b""), False),
        (READ, Answer(500, b""), False),
        # Here it is an answer.
        (READY, Answer(503, b""), False),
        # Retry-After is waited for, within the patience of the caller.
        (READ, Answer(503, b"", "10"), True),
        (READ, Answer(503, b"", "11"), False),
    ],
)
def test_what_is_sent_again(call: Call[Any], answer: Answer | NoAnswer, again: bool) -> None:
    assert (delay(call, answer, 0, 10.0) is not None) is again


def test_delays_have_full_jitter_and_a_bound_and_begin_after_retry_after() -> None:
    lost = NoAnswer("reset", sent=True)
    most = [delay(READ, lost, number, 10.0, lambda: 1.0) for number in (0, 1, 2, 3, 20, 2000)]
    assert most == [0.1, 0.2, 0.4, 0.8, 5.0, 5.0]
    assert delay(READ, lost, 3, 10.0, lambda: 0.0) == 0.0
    told = Answer(503, b"", "2")
    assert delay(READ, told, 0, 10.0, lambda: 0.0) == 2.0
    assert delay(READ, told, 0, 10.0, lambda: 1.0) == pytest.approx(2.1)


def test_retry_after_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    wait = delay(READ, Answer(503, b"", soon), 0, 60.0, lambda: 0.0)
    assert wait is not None
    assert 25 < wait <= 30
    assert delay(READ, Answer(503, b"", "soon"), 0, 60.0, lambda: 0.0) == 0.0


URL = "http://127.0.0.1:8001"


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "field", "text"),
    [
        (400, {"error": "room: is missing", "field": "room"}, InvalidRequest, None, "room", "room"),
        (409, {"error": "no_history", "message": "No."}, NotTaken, "no_history", None, "No."),
        (401, {"error": "a bearer token is needed"}, TokenRefused, None, None, "bearer"),
        (413, {"error": "the body is too large"}, InvalidRequest, None, None, "large"),
        (422, {"error": "Idempotency-Key: used"}, InvalidRequest, None, None, "used"),
        (503, {"error": "overloaded", "message": "M"}, Unavailable, "overloaded", None, "M"),
        (502, b"<html>", Unavailable, None, None, "not what the server API answers"),
        (404, b"<html>", ApiError, None, None, "not what the server API answers"),
        (302, b"", ApiError, None, None, "not what the server API answers"),
        (200, b"<html>", ApiError, None, None, "not what the server API answers"),
        (200, {"members": "x"}, ApiError, None, None, "not what the server API answers"),
        (400, {"error": 5, "field": 5}, InvalidRequest, None, None, "not what"),
    ],
)
def test_errors_carry_what_was_said(
    status: int,
    body: object,
    kind: type[ApiError],
    code: str | None,
    field: str | None,
    text: str,
) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        result(PUBLISH, Answer(status, data, "7"), URL)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.field) == (status, code, field)
    assert text in error.text
    assert f"POST {URL}/publish: {status} " in str(error)
    if status >= 400:
        assert error.retry_after == 7.0


def test_no_answer_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="no answer: refused") as caught:
        result(PUBLISH, NoAnswer("refused", sent=False), URL)
    assert caught.value.status is None


def test_keys_that_a_newer_server_adds_are_left_out() -> None:
    done = result(PUBLISH, Answer(200, b'{"members":2,"weather":"fine"}'), URL)
    assert done == Published(members=2)
    assert done.position is None


def test_a_publish_has_a_key_of_its_own() -> None:
    assert PUBLISH.key
    assert calls.publish("lobby", 1).key != PUBLISH.key
    assert calls.publish("lobby", 1, key="order-17").key == "order-17"
    assert KICK.key is None


def test_what_is_no_json_is_refused_before_it_is_sent() -> None:
    with pytest.raises(UsageError, match="cannot be sent as JSON"):
        calls.publish("lobby", object())
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UsageError, match="cannot be sent as JSON"):
        calls.publish("lobby", loop)


def test_what_is_none_is_left_out_and_data_may_be_none() -> None:
    assert calls.join("lobby", user="ann").body == b'{"room":"lobby","user":"ann"}'
    assert calls.publish("lobby", None).body == b'{"data":null,"room":"lobby"}'
    assert lists.users(limit=5).query == {"limit": "5"}
