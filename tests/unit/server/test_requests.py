"""What a query becomes, and which field a text says is wrong."""

from __future__ import annotations

import pytest
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from tidegate.server.bodies import StatsQuery
from tidegate.server.requests import field_of, read_query


def test_a_choice_in_a_query_is_one_of_the_choices() -> None:
    assert read_query(QueryParams(""), StatsQuery).scope == "node"
    assert read_query(QueryParams("scope=fleet"), StatsQuery).scope == "fleet"
    with pytest.raises(HTTPException, match=r"scope.*must be one of fleet, node"):
        read_query(QueryParams("scope=galaxy"), StatsQuery)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("room: is missing", "room"),
        ('limit: "x" is not a whole number from 1 to 1000', "limit"),
        ("Idempotency-Key: it was used for another request", "Idempotency-Key"),
        ("limits.per_ip = 0: must be 1 or more", "limits.per_ip"),
        ("the body: Expected `str`, got `int` - at `$.data.x`", "data.x"),
        ("the body: Expected `object`, got `array` - at `$`", None),
        ("the body: Object missing required field `data`", "data"),
        ("the body: Object contains unknown field `rom`", "rom"),
        ("the body: JSON is malformed", None),
        ("give one of room, user and all", None),
        ("", None),
    ],
)
def test_the_field_is_found_in_the_texts_that_there_are(text: str, field: str | None) -> None:
    assert field_of(text) == field
