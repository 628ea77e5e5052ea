"""`/drain` of the admin API: who may begin one, with what, and what is shown of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tidegate.core.settings import AdminSettings
from tidegate.server.admin import admin_app

TOKEN = "a-token-of-the-operator"
PROGRESS = {"draining": True, "over": False, "total": 7}


class Node:
    def __init__(self) -> None:
        self.leaving: Any = None
        self.begun: list[float | None] = []

    def begin_drain(self, window: float | None) -> None:
        self.begun.append(window)
        if self.leaving is None:
            self.leaving = SimpleNamespace(watched=False, progress=lambda: PROGRESS)


def ask(node: Node, method: str, path: str = "/drain", **options: Any) -> httpx.Response:
    token = options.pop("token", None)
    app = admin_app(node, AdminSettings(token=token), None)  # type: ignore[arg-type]

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        base = "http://127.0.0.1:8001"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, **options)

    return asyncio.run(request())


def test_looking_begins_nothing() -> None:
    node = Node()
    response = ask(node, "GET")
    assert (response.status_code, response.json()) == (200, {"draining": False})
    assert node.begun == []


def test_it_begins_and_is_shown() -> None:
    node = Node()
    begun = ask(node, "POST")
    assert (begun.status_code, begun.json()) == (202, PROGRESS)
    assert node.begun == [None]
    assert node.leaving.watched
    shown = ask(node, "GET")
    assert (shown.status_code, shown.json()) == (200, PROGRESS)


@pytest.mark.parametrize(("text", "window"), [("0", 0.0), ("2.5", 2.5), ("3600", 3600.0)])
def test_with_a_window(text: str, window: float) -> None:
    node = Node()
    assert ask(node, "POST", f"/drain?window={text}").status_code == 202
    assert node.begun == [window]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("window=soon", 'window: "soon" is not a number'),
        ("window=", 'window: "" is not a number'),
        ("window=-1", "drain.window = -1"),
        ("window=3601", "drain.window = 3601"),
        ("window=nan", "drain.window = nan"),
        ("window=inf", "drain.window = inf"),
        ("windows=1", 'unknown parameter "windows"'),
    ],
)
def test_a_wrong_window_begins_nothing(query: str, said: str) -> None:
    node = Node()
    response = ask(node, "POST", f"/drain?{query}")
    assert response.status_code == 400
    assert said in response.json()["error"]
    assert node.begun == []


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8001", 202),
        ("http://127.0.0.1:9000", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_a_page_of_another_site_may_not_begin_it(origin: str, status: int) -> None:
    node = Node()
    assert ask(node, "POST", headers={"Origin": origin}).status_code == status
    assert len(node.begun) == (status == 202)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_it_asks_for_the_token(method: str) -> None:
    node = Node()
    assert ask(node, method, token=TOKEN).status_code == 401
    wrong = {"Authorization": "Bearer another"}
    assert ask(node, method, token=TOKEN, headers=wrong).status_code == 401
    assert node.begun == []
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(node, method, token=TOKEN, headers=right).status_code in (200, 202)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_begin_nothing(method: str) -> None:
    node = Node()
    assert ask(node, method).status_code == 405
    assert node.begun == []
