"""The files of docs/reference that other programs and people act on say what the code does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.process import ROOT
from tidegate.core.codes import REASONS, Close, Fault, Refusal
from tidegate.engine.states import MOVES

REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def codes() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads((REFERENCE / "codes.json").read_text())
    return found


def test_codes_json_has_every_reason_by_its_kind(codes: dict[str, list[dict[str, Any]]]) -> None:
    keys = {
        "refusals": (Refusal, ["name", "status", "code", "retryAfter", "message"]),
        "closes": (Close, ["name", "code", "retryAfter", "message"]),
        "faults": (Fault, ["name", "retryAfter", "message"]),
    }
    assert codes.keys() == keys.keys()
    for name, (kind, known) in keys.items():
        rows = codes[name]
        assert [row["name"] for row in rows] == [
            each.name for each in REASONS.values() if isinstance(each, kind)
        ]
        assert all(list(row) == known for row in rows)


def test_codes_json_keeps_the_rule_of_the_ranges(codes: dict[str, list[dict[str, Any]]]) -> None:
    rows = [*codes["refusals"], *codes["closes"]]
    for row in rows:
        if 4000 <= row["code"] <= 4499 or row["code"] in (1001, 1012, 1013):
            assert row["retryAfter"] is not None, row
        if 4500 <= row["code"] <= 4999:
            assert row["retryAfter"] is None, row


def test_states_page_has_every_move() -> None:
    page = (REFERENCE / "states.md").read_text()
    for old, following in MOVES.items():
        for new, cause in following.items():
            assert f"    {old.value} --> {new.value}\n" in page
            assert f"| `{old.value}` | `{new.value}` | {cause} |\n" in page
