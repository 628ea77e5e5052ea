"""`/drain` of the admin API: who may begin one, with what, and what is shown of it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from msgspec import to_builtins

from tests.unit.server.admin_world import TOKEN
from tests.unit.server.admin_world import ask as ask_admin
from tidegate.core.settings import DrainSettings
from tidegate.node.control import Control, DrainProgress

PROGRESS = DrainProgress(True, False, 7, 3, 2, 5, 30.0, 1.5, 33.5)


class Draining(Control):
    """Control that notes drains and begins none; a wrong window is wrong all the same."""

    def __init__(self) -> None:
        self.begun: list[float | None] = []

    def drain(self, window: float | None = None) -> DrainProgress:
        if window is not None:
            DrainSettings(window=window)
        self.begun.append(window)
        return PROGRESS

    def drain_progress(self) -> DrainProgress | None:
        return PROGRESS if self.begun else None


def ask(control: Control, method: str, path: str = "/drain", **options: Any) -> httpx.Response:
    return ask_admin(path, control, method, **options)


def test_looking_begins_nothing() -> None:
    control = Draining()
    response = ask(control, "GET")
    assert (response.status_code, response.json()) == (200, {"draining": False})
    assert control.begun == []


def test_a_drain_begins_and_is_shown() -> None:
    control = Draining()
    begun = ask(control, "POST")
    assert (begun.status_code, begun.json()) == (202, to_builtins(PROGRESS))
    assert control.begun == [None]
    shown = ask(control, "GET")
    assert (shown.status_code, shown.json()) == (200, to_builtins(PROGRESS))


@pytest.mark.parametrize(("text", "window"), [("0", 0.0), ("2.5", 2.5), ("3600", 3600.0)])
def test_a_drain_has_the_window_that_is_given(text: str, window: float) -> None:
    control = Draining()
    assert ask(control, "POST", f"/drain?window={text}").status_code == 202
    assert control.begun == [window]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("window=soon", 'window: "soon" is not a number'),
        ("window=", 'window: "" is not a number'),
        ("window=-1", "drain.window = -1"),
        ("window=3601", "drain.window = 3601"),
        ("window=nan", "drain.window = nan"),
        ("window=inf", "drain.window = inf"),
        ("window=1&window=2", "window: given twice"),
        ("windows=1", 'unknown parameter "windows"; there is window'),
    ],
)
def test_a_wrong_window_begins_nothing(query: str, said: str) -> None:
    control = Draining()
    response = ask(control, "POST", f"/drain?{query}")
    assert response.status_code == 400
    assert said in response.json()["error"]
    assert control.begun == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_drain_asks_for_the_token(method: str) -> None:
    control = Draining()
    assert ask(control, method, token=TOKEN).status_code == 401
    wrong = {"Authorization": "Bearer another"}
    assert ask(control, method, token=TOKEN, headers=wrong).status_code == 401
    assert control.begun == []
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(control, method, token=TOKEN, headers=right).status_code in (200, 202)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_begin_nothing(method: str) -> None:
    control = Draining()
    response = ask(control, method)
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert control.begun == []
