"""The OpenAPI document says what there is, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no stubs here
from starlette.routing import Route

from tests.unit.server.admin_world import TOKEN, ask, node_of
from tidegate.core.settings import Settings
from tidegate.server.admin import admin_app
from tidegate.server.openapi import document
from tidegate.server.timeline import Timeline


def test_the_document_has_every_path_and_method_and_no_others() -> None:
    node = node_of()
    try:
        settings = Settings.from_mapping({"admin": {"dashboard": False}})
        counted: Any = admin_app(
            node.control, settings, lambda: (0, 0), Timeline(node.control.sample)
        )
        routes = {
            (route.path, method)
            for route in counted._app._app.routes
            if isinstance(route, Route)
            for method in (route.methods or set()) - {"HEAD"}
        }
    finally:
        node.engine.shared.poller.close()
    paths = json.loads(document("1"))["paths"]
    assert routes == {(path, method.upper()) for path in paths for method in paths[path]}


def test_it_is_served_to_those_who_have_the_token() -> None:
    assert ask("/openapi.json", token=TOKEN).status_code == 401
    answer = ask("/openapi.json", token=TOKEN, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.json()["openapi"] == "3.1.0"


def test_every_reference_leads_somewhere() -> None:
    text = document("1").decode()
    schemas = json.loads(text)["components"]["schemas"]
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in schemas


@pytest.mark.parametrize(
    ("name", "body", "valid"),
    [
        ("Disconnect", {}, False),
        ("Disconnect", {"id": None}, False),
        ("Disconnect", {"ip": "10.0.0.1", "detail": "why"}, True),
        ("RoomJoin", {"room": "r"}, False),
        ("RoomJoin", {"room": "r", "user": "ann"}, True),
        ("RoomLeave", {"room": "r"}, True),
        ("Publish", {"data": 1}, False),
        ("Publish", {"data": 1, "room": "r", "all": True}, False),
        ("Publish", {"data": 1, "all": False}, False),
        ("Publish", {"data": 1, "all": True}, True),
        ("Publish", {"data": 1, "user": "ann"}, True),
    ],
)
def test_bodies_need_what_the_server_needs(name: str, body: object, valid: bool) -> None:
    found = json.loads(document("1"))
    schema = {"$ref": f"#/components/schemas/{name}", "components": found["components"]}
    assert Draft202012Validator(schema).is_valid(body) is valid
