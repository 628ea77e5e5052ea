from __future__ import annotations

import json

import pytest

from tidegate.core import codes
from tidegate.core.codes import REASONS, Fault, Reason, Refusal, close_text, http_body

ROWS = pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS.keys())


@pytest.mark.parametrize(
    ("name", "http", "close", "retry_after"),
    [
        ("server_limit", 503, 1013, 5),
        ("ip_limit", 429, 1013, 10),
        ("user_limit", 429, 1013, 10),
        ("tier_limit", 429, 1013, 10),
        ("room_limit", None, None, None),
        ("unauthorized", 401, 4501, None),
        ("origin", 403, 1008, None),
        ("queue_full", 503, 1013, 60),
        ("waiting", 503, 1013, 5),
        ("wait_timeout", 503, 1013, 5),
        ("rate_limited", 503, 1013, 5),
        ("shedding", 503, 1013, 10),
        ("breaker", 503, 1013, 10),
        ("draining", 503, 1013, 5),
        ("bad_request", 400, 1002, None),
        ("not_found", 404, 1008, None),
        ("method_not_allowed", 405, 1002, None),
        ("handshake_timeout", 408, 1008, None),
        ("upgrade_required", 426, 1002, None),
        ("headers_too_large", 431, 1009, None),
        ("pending_limit", 503, 1013, 5),
        ("decision_timeout", 503, 1013, 5),
        ("http_version", 505, 1002, None),
        ("normal", None, 1000, None),
        ("idle_timeout", None, 1000, None),
        ("shutdown", None, 1001, 5),
        ("shed", None, 1001, 60),
        ("drained", None, 1012, 5),
        ("message_abuse", None, 1008, None),
        ("protocol_error", None, 1002, None),
        ("invalid_data", None, 1007, None),
        ("policy", None, 1008, None),
        ("message_too_big", None, 1009, None),
        ("token_expired", None, 4501, None),
        ("auth_timeout", None, 4501, None),
        ("slow_consumer", None, 4008, 5),
        ("message_rate", None, None, 1),
        ("broadcast_off", None, None, 10),
    ],
)
def test_what_peers_are_told(
    name: str, http: int | None, close: int | None, retry_after: int | None
) -> None:
    reason = REASONS[name]
    assert (_status(reason), _code(reason), reason.retry_after) == (http, close, retry_after)


def _status(reason: Reason) -> int | None:
    return reason.status if isinstance(reason, Refusal) else None


def _code(reason: Reason) -> int | None:
    return None if isinstance(reason, Fault) else reason.code


def test_every_row_is_a_constant_and_exported() -> None:
    for name, reason in REASONS.items():
        assert getattr(codes, name.upper()) is reason
        assert name.upper() in codes.__all__


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        REASONS["server_limit"] = REASONS["ip_limit"]  # type: ignore[index]


@ROWS
def test_a_row_is_sound(reason: Reason) -> None:
    status, code = _status(reason), _code(reason)
    assert status is None or 400 <= status <= 599
    # RFC 6455 7.4.2: 1000 to 2999 belong to the protocol, 4000 to 4999 to applications.
    assert code is None or 1000 <= code <= 1014 or 4000 <= code <= 4999
    if status in (429, 503) or code == 1013:
        assert reason.retry_after is not None
        assert reason.retry_after > 0
    assert reason.message.isascii()


@ROWS
def test_the_range_of_an_own_code_says_whether_to_come_back(reason: Reason) -> None:
    code = _code(reason)
    if code is not None and code >= 4000:
        assert (code < 4500) is (reason.retry_after is not None)


@ROWS
def test_close_text_fits_into_a_close_frame(reason: Reason) -> None:
    if isinstance(reason, Fault):
        return
    for retry_after in (None, 0, 5, 86_400):
        text = close_text(reason, retry_after)
        assert json.loads(text) == {"error": reason.name, "retryAfter": retry_after}
        assert len(text.encode()) <= 123


@pytest.mark.parametrize("detail", ["opcode not known", "d" * 200, 'says "no"' * 40, "\\" * 99])
def test_close_text_with_a_detail_is_cut_where_it_does_not_fit(detail: str) -> None:
    text = close_text(codes.PROTOCOL_ERROR, None, detail)
    said = json.loads(text)
    assert (said["error"], said["retryAfter"]) == ("protocol_error", None)
    assert detail.startswith(said["detail"])
    assert said["detail"]
    assert len(text.encode()) <= 123


@ROWS
def test_http_body(reason: Reason) -> None:
    if not isinstance(reason, Refusal):
        return
    for retry_after in (None, 5):
        assert json.loads(http_body(reason, retry_after)) == {
            "error": reason.name,
            "message": reason.message,
            "retryAfter": retry_after,
        }


def test_the_texts_are_compact() -> None:
    assert close_text(codes.SERVER_LIMIT, 5) == '{"error":"server_limit","retryAfter":5}'
    assert http_body(codes.UNAUTHORIZED, None) == (
        b'{"error":"unauthorized","message":"A valid token is needed","retryAfter":null}'
    )


def test_usual_delays_are_those_that_released_clients_have() -> None:
    assert {code: delay for code, delay in codes.USUAL_DELAYS.items() if delay is not None} == {
        1001: 5,
        1011: 5,
        1012: 5,
        1013: 5,
        4002: 10,
        4008: 5,
        4009: 5,
        4010: 1,
    }
