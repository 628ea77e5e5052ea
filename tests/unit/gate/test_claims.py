"""Claims that an application makes."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate import UsageError, claims
from tidegate.core.admission.attempt import Claims


def test_claims_are_what_a_token_would_say() -> None:
    made = claims(rooms=["chat:*"], join=("lobby",), info={"name": "Ann"}, operator=True)
    assert made == Claims(("chat:*",), ("lobby",), b'{"name":"Ann"}', True)
    assert claims() == Claims()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"rooms": "lobby"}, "rooms must be a list"),
        ({"join": ["a\nb"]}, "join must hold texts"),
        ({"join": ["r"] * 101}, "join must be a list of at most 100"),
        ({"info": {"text": "x" * 2000}}, "info must be an object of at most 1024 bytes"),
        ({"operator": 1}, "operator must be true or false"),
    ],
)
def test_claims_that_no_token_may_have_are_errors(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        claims(**wrong)
