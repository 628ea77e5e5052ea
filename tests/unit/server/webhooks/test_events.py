"""What a receiver of webhooks may answer, and what of it is not believed."""

from __future__ import annotations

import pytest

from tidegate.core.admission.attempt import ANONYMOUS, Claims, Identity
from tidegate.server.webhooks.events import AnswerError, ConnectAnswer, PublishAnswer, read
from tidegate.server.webhooks.sending import signature

ASKED = Identity("ann", "free", 3, 1e9, Claims(("news.*",), operator=True))


@pytest.mark.parametrize(
    ("answer", "identity"),
    [
        (b'{"allow": true}', ASKED),
        (b'{"allow": true, "user": "bob"}', Identity("bob", "free", 3, 1e9, ASKED.claims)),
        (
            b'{"allow": true, "tier": "paid", "priority": 9, "more": 1}',
            Identity("ann", "paid", 9, 1e9, ASKED.claims),
        ),
        (
            b'{"allow": true, "info": {"a": 1}, "join": ["lobby"]}',
            Identity(
                "ann", "free", 3, 1e9, Claims(("news.*",), ("lobby",), b'{"a":1}', operator=True)
            ),
        ),
    ],
)
def test_connect_answer_changes_what_it_names(answer: bytes, identity: Identity) -> None:
    assert read(answer, ConnectAnswer).identity(ASKED) == identity


def test_connect_answer_keeps_an_anonymous_client_anonymous() -> None:
    assert read(b'{"allow": true}', ConnectAnswer).identity(ANONYMOUS) == ANONYMOUS


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON|wrong"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "wrong"),
        (b"{}", "wrong"),
        (b'{"allow": "true"}', "wrong"),
        (b'{"allow": 1}', "wrong"),
        (b'{"allow": true, "user": 5}', "wrong"),
        (b'{"allow": true, "user": ""}', "user is no name"),
        (b'{"allow": true, "user": "a\\u0000"}', "user is no name"),
        (b'{"allow": true, "tier": "a\\n"}', "tier is no name"),
        (b'{"allow": true, "priority": 101}', "priority"),
        (b'{"allow": true, "join": ["\\n"]}', "join"),
        (b'{"allow": true, "info": {"a": "' + b"x" * 1024 + b'"}}', "info"),
    ],
)
def test_answer_that_is_wrong_is_none(answer: bytes, problem: str) -> None:
    with pytest.raises(AnswerError, match=problem):
        read(answer, ConnectAnswer).identity(ANONYMOUS)


def test_publish_answer_may_change_the_data() -> None:
    assert not read(b'{"allow": true}', PublishAnswer).data
    assert bytes(read(b'{"allow": true, "data": [1, null]}', PublishAnswer).data) == b"[1, null]"
    assert bytes(read(b'{"allow": true, "data": null}', PublishAnswer).data) == b"null"


def test_signature_is_of_the_time_and_the_body() -> None:
    # printf '1800000000.{}' | openssl dgst -sha256 -hmac kkkk... (32 times)
    expected = "t=1800000000,v1=724b379a5efd76c30d6bed85a07a8e2b9b8b6ef15e94c73b8f67d4ed35412105"
    assert signature("k" * 32, b"{}", 1_800_000_000) == expected
    assert signature("k" * 32, b"{}", 1_800_000_001) != expected
    assert signature("k" * 32, b"[]", 1_800_000_000) != expected
