"""`PATCH /settings` and `POST /disconnect` of the admin API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.unit.server.admin_world import ask, node_of
from tidegate.node.control import Control, Disconnected, Selector
from tidegate.node.node import Node
from tidegate.server.requests import MAX_BODY

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def node() -> Iterator[Node]:
    node = node_of(auth={"secret": "x" * 40})
    yield node
    node.engine.shared.poller.close()


def patch(node: Node, changes: Any) -> Any:
    return ask("/settings", node.control, "PATCH", json=changes)


# Settings.


def test_settings_are_shown_with_what_can_change(node: Node) -> None:
    found = ask("/settings", node.control).json()["settings"]
    assert found["limits.per_ip"] == {"value": 100, "live": True}
    assert found["server.backlog"] == {"value": 4096, "live": False}
    assert found["auth.secret"]["value"] == "********"
    assert found["admin.token"]["value"] is None


def test_a_patch_says_what_is_applied_and_what_needs_a_restart(node: Node) -> None:
    answer = patch(node, {"limits": {"per_ip": 5}, "server": {"port": 9}})
    assert answer.status_code == 200
    assert answer.content == b'{"applied":["limits.per_ip"],"restart":["server.port"]}'
    found = ask("/settings", node.control).json()["settings"]
    assert found["limits.per_ip"]["value"] == 5
    assert found["server.port"]["value"] == 8000


def test_a_patch_of_nothing_changes_nothing(node: Node) -> None:
    assert patch(node, {}).json() == {"applied": [], "restart": []}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"limits": {"per_ip": -1}},
            "limits.per_ip = -1: must be a whole number from 0 to 10,000,000",
        ),
        (
            {"limits": {"perip": 5}},
            "limits.perip: there is no such setting; did you mean limits.per_ip",
        ),
        ({"limitz": {"per_ip": 5}}, "limitz: there is no such section; did you mean limits"),
        ({"limits": None}, "limits = None: must be a section with settings in it"),
        ({"limits": {"per_ip": None}}, "limits.per_ip = None: must be a whole number"),
        ({"limits": {"per_ip": 1e400}}, "the body: "),
        ({"auth": {"secret": "a secret that is short"}}, "auth.secret: must be"),
        ([], "the body: Expected `object`, got `array`"),
        (5, "the body: Expected `object`, got `int`"),
    ],
)
def test_a_wrong_patch_names_the_setting_and_changes_nothing(
    node: Node, changes: Any, said: str
) -> None:
    before = node.settings
    if isinstance(changes, dict):
        changes = {"heartbeat": {"interval": 7.0}, **changes}
    answer = ask(
        "/settings", node.control, "PATCH", content=json.dumps(changes).encode(), headers=JSON
    )
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(said)
    assert "a secret that is short" not in answer.text
    assert node.settings is before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"limits": {"per_ip": "\xff"}}',
        b"limits",
        b"{} {}",
        b'{"limits":' * 6000,
        b'{"limits": {"per_ip": ' + b"[" * 900 + b"]" * 900 + b"}}",
    ],
)
@pytest.mark.parametrize("path", ["/settings", "/disconnect"])
def test_a_body_that_is_not_right_is_400(node: Node, path: str, body: bytes) -> None:
    method = "PATCH" if path == "/settings" else "POST"
    answer = ask(path, node.control, method, content=body, headers=JSON)
    assert answer.status_code == 400
    assert len(answer.content) < 300


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", ["/settings", "/disconnect"])
def test_a_body_that_is_not_said_to_be_json_is_415(node: Node, path: str, kind: str | None) -> None:
    method = "PATCH" if path == "/settings" else "POST"
    headers = {} if kind is None else {"Content-Type": kind}
    body = b'{"limits": {"per_ip": 5}}'
    answer = ask(path, node.control, method, content=body, headers=headers)
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]
    assert node.settings.limits.per_ip == 100


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON"])
def test_a_content_type_may_have_parameters(node: Node, kind: str) -> None:
    answer = ask(
        "/settings",
        node.control,
        "PATCH",
        content=b'{"limits": {"per_ip": 5}}',
        headers={"Content-Type": kind},
    )
    assert answer.json()["applied"] == ["limits.per_ip"]


def padded(size: int) -> bytes:
    body = b'{"limits": {"per_ip": 5}}'
    return body + b" " * (size - len(body))


def test_a_body_may_have_64_kib(node: Node) -> None:
    at_most = ask("/settings", node.control, "PATCH", content=padded(MAX_BODY), headers=JSON)
    assert at_most.json()["applied"] == ["limits.per_ip"]
    assert MAX_BODY == 65_536


@pytest.mark.parametrize("path", ["/settings", "/disconnect"])
def test_a_larger_body_is_413(node: Node, path: str) -> None:
    method = "PATCH" if path == "/settings" else "POST"
    answer = ask(path, node.control, method, content=padded(MAX_BODY + 1), headers=JSON)
    assert answer.status_code == 413
    assert "65,536" in answer.json()["error"]
    assert node.settings.limits.per_ip == 100


def test_a_body_without_an_end_is_not_read_on(node: Node) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * 16_384

    answer = ask("/settings", node.control, "PATCH", content=endless(), headers=JSON)
    assert answer.status_code == 413
    assert sent <= 6


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/settings", "PUT", {"GET", "HEAD", "PATCH"}),
        ("/settings", "POST", {"GET", "HEAD", "PATCH"}),
        ("/disconnect", "GET", {"POST"}),
        ("/disconnect", "DELETE", {"POST"}),
    ],
)
def test_other_methods_are_405(node: Node, path: str, method: str, allowed: set[str]) -> None:
    answer = ask(path, node.control, method)
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == allowed


# Disconnecting.


class Ending(Control):
    """Control that notes what is to be ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[Selector, str, bool, int | None]] = []

    async def disconnect(
        self,
        selector: Selector,
        detail: str = "",
        *,
        may_return: bool = False,
        code: int | None = None,
    ) -> Disconnected:
        self.ended.append((selector, detail, may_return, code))
        return Disconnected(3)


@pytest.mark.parametrize(
    ("body", "selector", "how"),
    [
        ({"id": "n-1"}, Selector(id="n-1"), ("", False, None)),
        ({"user": "ann", "detail": "spam"}, Selector(user="ann"), ("spam", False, None)),
        ({"ip": "::ffff:192.0.2.1"}, Selector(ip="192.0.2.1"), ("", False, None)),
        ({"room": "lobby", "user": "ann"}, Selector(room="lobby", user="ann"), ("", False, None)),
        ({"user": "ann", "mayReturn": True}, Selector(user="ann"), ("", True, None)),
        ({"user": "ann", "code": 4321}, Selector(user="ann"), ("", False, 4321)),
    ],
)
def test_disconnect_ends_what_the_body_selects(
    body: dict[str, Any], selector: Selector, how: tuple[str, bool, int | None]
) -> None:
    control = Ending()
    answer = ask("/disconnect", control, "POST", json=body)
    assert (answer.status_code, answer.json()) == (200, {"count": 3})
    assert control.ended == [(selector, *how)]


@pytest.mark.parametrize(
    ("body", "said", "field"),
    [
        ({}, "give one of id, user, ip and room at least", None),
        ({"detail": "spam"}, "give one of id, user, ip and room at least", None),
        ({"id": None}, "give one of id, user, ip and room at least", None),
        ({"usr": "ann"}, "the body: Object contains unknown field `usr`", "usr"),
        ({"user": 5}, "the body: Expected `str | null`, got `int` - at `$.user`", "user"),
        ({"ip": "alice"}, 'ip: "alice" is neither an IP address nor a network', "ip"),
        ([], "the body: Expected `object`, got `array`", None),
    ],
)
def test_a_wrong_selector_ends_nothing(body: Any, said: str, field: str | None) -> None:
    control = Ending()
    answer = ask("/disconnect", control, "POST", json=body)
    expected = {"error": said} if field is None else {"error": said, "field": field}
    assert (answer.status_code, answer.json()) == (400, expected)
    assert control.ended == []
