"""The AsyncAPI document of the native protocol, read by the official parser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from tidegate.wire.messages import ClientMessage, ServerMessage

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "asyncapi.json"


def tags(union: object) -> list[str]:
    return sorted(str(kind.__struct_config__.tag) for kind in get_args(union))


def test_asyncapi_official_parser_finds_no_errors_and_every_message(
    node: Callable[..., str],
) -> None:
    found = json.loads(node("asyncapi.mjs", str(DOCUMENT), timeout=120))
    assert found["errors"] == []
    assert sorted(found["received"]) == tags(ClientMessage)
    assert sorted(found["sent"]) == tags(ServerMessage)
