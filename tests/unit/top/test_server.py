"""What the admin API says, made into rates."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.top.samples import node
from tidegate.errors import TidegateError
from tidegate.top.server import ServerWatch, quantile

STATS: dict[str, Any] = {
    "connections": {"current": 3, "peak": 4, "limit": 10, "uniqueIps": 2, "uniqueUsers": 1},
    "rejections": {"server_limit": 5, "origin": 0},
    "load": {
        "zone": "normal",
        "since": 1.0,
        "pressure": 0.1,
        "driver": None,
        "pressures": {"cpu": 0.1},
        "acts": False,
    },
    "waiting": {"now": 0, "kept": 0},
}


def metrics(accepted: int = 3, refused: int = 5, closed: int = 0, late: int = 0) -> str:
    return f"""\
# TYPE websocket_connections_total counter
websocket_connections_total{{result="accepted"}} {accepted}
websocket_connections_current{{state="opening"}} 2.0
websocket_rejections_total{{reason="server_limit"}} {refused}
websocket_rejections_total{{reason="origin"}} 0.0
websocket_disconnections_total{{reason="normal"}} {closed}
websocket_disconnections_total{{reason="eof"}} {closed}
websocket_event_loop_lag_seconds_bucket{{le="0.001"}} 100.0
websocket_event_loop_lag_seconds_bucket{{le="0.01"}} {100.0 + late}
websocket_event_loop_lag_seconds_bucket{{le="+Inf"}} {100.0 + late}
process_cpu_seconds_total {accepted}
"""


def connection(number: int, **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "user": "ann",
        "tier": None,
        "address": "10.0.0.1",
        "roomCount": 0,
        "rooms": [],
    }
    return {
        "id": f"n-{number:x}",
        "number": number,
        "age": float(number),
        "idle": 0.0,
        "buffered": 0,
        **usual,
        **changes,
    }


class Api:
    """An admin API with pages of connections."""

    def __init__(self, *pages: list[dict[str, Any]]) -> None:
        self.pages = pages or ([],)
        self.text = metrics()
        self.asked: list[str] = []

    def ask(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        if path == "/stats":
            return STATS
        if path == "/nodes":
            return {"nodes": [msgspec.to_builtins(node("n"))]}
        number = int(path.rpartition("after=")[2].partition("&")[0])
        more = number + 1 < len(self.pages)
        return {"connections": self.pages[number], "next": number + 1 if more else None}

    def read(self, path: str) -> str:
        assert path == "/metrics"
        return self.text


def test_rates_are_from_one_look_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 12.0])
    monkeypatch.setattr("tidegate.top.server.monotonic", lambda: next(now))
    api = Api()
    watch = ServerWatch("url", api.ask, api.read)
    first = watch.read()
    assert (first.connects, first.closes, first.refusals, first.cpu) == (None, None, {}, None)
    assert first.refused == {"server_limit": 5}
    assert first.opening == 2
    api.text = metrics(accepted=7, refused=6, closed=1, late=100)
    second = watch.read()
    assert (second.connects, second.closes) == (2.0, 1.0)
    assert second.refusals == {"server_limit": 0.5}
    assert (second.cpu, second.cpu_low, second.cpu_high) == (2.0, 2.0, 2.0)
    # Only what came since counts: all of it is between 1 and 10 ms.
    assert second.lag == pytest.approx(0.00991)
    assert second.memory is None


def test_a_server_that_was_started_anew_has_no_negative_rate() -> None:
    api = Api()
    watch = ServerWatch("url", api.ask, api.read)
    watch.read()
    api.text = metrics(accepted=0)
    assert watch.read().connects == 0.0


def test_connections_are_counted_and_sorted() -> None:
    api = Api(
        [connection(1), connection(2, user="bob", buffered=9)],
        [connection(3, address="10.0.0.2"), connection(4, user=None)],
    )
    watch = ServerWatch("url", api.ask, api.read)
    seen = watch.read()
    assert [(each.name, each.count) for each in seen.top_users] == [("ann", 2), ("bob", 1)]
    assert [(each.name, each.count) for each in seen.top_addresses] == [
        ("10.0.0.1", 3),
        ("10.0.0.2", 1),
    ]
    assert (seen.listed, seen.listed_all) == (4, True)
    assert seen.rows[0].id == "n-2"
    for sort, first in (("age", "n-4"), ("address", "n-1"), ("user", "n-4")):
        assert watch.read(sort=sort).rows[0].id == first


def test_pages_are_bounded_and_not_asked_for_each_time() -> None:
    api = Api(*[[connection(number)] for number in range(1, 20)])
    watch = ServerWatch("url", api.ask, api.read)
    seen = watch.read()
    assert (seen.listed, seen.listed_all) == (10, False)
    pages = [path for path in api.asked if path.startswith("/connections")]
    assert len(pages) == 10
    watch.read()
    assert len([path for path in api.asked if path.startswith("/connections")]) == 10
    watch.read({"user": "ann"})
    assert any("user=ann" in path for path in api.asked)
    watch.forget_pages()
    watch.read({"user": "ann"})
    assert len([path for path in api.asked if path.startswith("/connections")]) == 30


def test_an_answer_of_something_else_is_told() -> None:
    watch = ServerWatch("url", lambda _: {"hello": 1}, lambda _: "")
    with pytest.raises(TidegateError, match="url answers, and not as this version should"):
        watch.read()
    page = ServerWatch("url", Api().ask, lambda _: "<html>\n")
    with pytest.raises(TidegateError, match="not as this version should"):
        page.read()


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ({}, 0.5, None),
        ({1.0: 0, float("inf"): 0}, 0.5, None),
        ({1.0: 10, 2.0: 10, float("inf"): 10}, 0.5, 0.5),
        ({1.0: 0, 2.0: 10, float("inf"): 10}, 0.5, 1.5),
        ({1.0: 5, 2.0: 5, float("inf"): 10}, 0.99, 2.0),
    ],
)
def test_a_quantile_is_taken_from_the_buckets(
    buckets: dict[float, float], share: float, value: float | None
) -> None:
    assert quantile(buckets, share) == value
