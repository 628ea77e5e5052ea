from __future__ import annotations

import json

import pytest

from tidegate.core import codes
from tidegate.core.codes import REASONS, Reason, close_reason, http_body

ROWS = pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS.keys())


@pytest.mark.parametrize(
    ("name", "http", "close", "retry_after"),
    [
        ("server_limit", 503, 1013, 5),
        ("ip_limit", 429, 1013, 10),
        ("user_limit", 429, 1013, 10),
        ("tier_limit", 429, 1013, 10),
        ("room_limit", 403, None, None),
        ("unauthorized", 401, 4001, None),
        ("origin", 403, 1008, None),
        ("queue_full", 503, 1013, 60),
        ("waiting", 503, None, 5),
        ("wait_timeout", 503, 1013, 5),
        ("rate_limited", 503, 1013, 5),
        ("shedding", 503, 1013, 10),
        ("breaker", 503, 1013, 10),
        ("draining", 503, 1013, 5),
        ("bad_request", 400, None, None),
        ("not_found", 404, None, None),
        ("method_not_allowed", 405, None, None),
        ("handshake_timeout", 408, None, None),
        ("upgrade_required", 426, None, None),
        ("headers_too_large", 431, None, None),
        ("http_version", 505, None, None),
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
        ("token_expired", None, 4001, None),
        ("auth_timeout", None, 4001, None),
        ("slow_consumer", None, 4008, 5),
        ("message_rate", None, None, 1),
        ("broadcast_off", None, None, 10),
    ],
)
def test_what_peers_are_told(
    name: str, http: int | None, close: int | None, retry_after: int | None
) -> None:
    reason = REASONS[name]
    assert (reason.http, reason.close, reason.retry_after) == (http, close, retry_after)


def test_every_row_is_a_constant_and_exported() -> None:
    for name, reason in REASONS.items():
        assert getattr(codes, name.upper()) is reason
        assert name.upper() in codes.__all__


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        REASONS["server_limit"] = REASONS["ip_limit"]  # type: ignore[index]


def test_texts_that_clients_know() -> None:
    assert codes.IDLE_TIMEOUT.message == "Idle timeout"
    assert codes.TOKEN_EXPIRED.message == "token expired"
    assert codes.SHED.message == "Server shedding load"


@ROWS
def test_a_row_is_sound(reason: Reason) -> None:
    assert reason.http is None or 400 <= reason.http <= 599
    # RFC 6455 7.4.2: 1000 to 2999 belong to the protocol, 4000 to 4999 to applications.
    assert reason.close is None or 1000 <= reason.close <= 1014 or 4000 <= reason.close <= 4999
    if reason.http in (429, 503) or reason.close == 1013:
        assert reason.retry_after is not None
        assert reason.retry_after > 0
    # Also the text of a close frame.
    assert reason.message.isascii()
    assert len(reason.message) <= 123


@ROWS
def test_close_reason(reason: Reason) -> None:
    for retry_after in (None, 0, 5, 86_400):
        text = close_reason(reason, retry_after)
        assert json.loads(text) == {"error": reason.name, "retryAfter": retry_after}
        assert len(text.encode()) <= 123


@ROWS
def test_http_body(reason: Reason) -> None:
    for retry_after in (None, 5):
        assert json.loads(http_body(reason, retry_after)) == {
            "error": reason.name,
            "message": reason.message,
            "retryAfter": retry_after,
        }


def test_the_texts_are_compact() -> None:
    assert close_reason(codes.SERVER_LIMIT, 5) == '{"error":"server_limit","retryAfter":5}'
    assert http_body(codes.UNAUTHORIZED, None) == (
        b'{"error":"unauthorized","message":"A valid token is needed","retryAfter":null}'
    )
