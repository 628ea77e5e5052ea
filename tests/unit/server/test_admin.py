from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client.registry import Collector

from tidegate.core.messaging.rooms import Rooms
from tidegate.core.settings import AdminSettings
from tidegate.server.admin import admin_app

TOKEN = "a-token-of-the-operator"
LOCAL = "http://127.0.0.1:8001"


@dataclass(eq=False)
class Peer:
    """As much of a connection as the list shows."""

    number: int
    user: str | None = None
    tier: str | None = None
    address: str = "192.0.2.1"
    rooms: tuple[str, ...] = ()
    buffered: int = 0
    closed: bool = False
    opened_at: float = 0.0
    last_active: float = 0.0
    waits: bool = False

    @property
    def lease(self) -> Any:
        return SimpleNamespace(held=not self.waits)

    @property
    def id(self) -> str:
        return f"n-{self.number:x}"


class Nothing(Collector):
    def collect(self) -> Iterator[Any]:
        return iter(())


class Node:
    version = "1.2.3"
    uptime = 4.0

    def __init__(self, peers: list[Peer]) -> None:
        self.peers = peers
        self.rooms: Rooms[Peer] = Rooms(10_000, 10)
        self.ready = (True, "")

    @property
    def connections(self) -> Iterator[Peer]:
        return iter(self.peers)

    def snapshot(self) -> dict[str, Any]:
        return {"connections": {"current": len(self.peers)}}


def ask(
    path: str,
    node: Node | None = None,
    token: str | None = None,
    headers: Any = None,
    method: str = "GET",
    base: str = LOCAL,
) -> httpx.Response:
    app = admin_app(node or Node([]), AdminSettings(token=token), Nothing())  # type: ignore[arg-type]

    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base) as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(request())


def listed(query: str, node: Node) -> list[int]:
    answer = ask(f"/connections{query}", node)
    assert answer.status_code == 200, answer.text
    return [row["number"] for row in answer.json()["connections"]]


def test_stats() -> None:
    assert ask("/stats").json() == {"connections": {"current": 0}}


@pytest.mark.parametrize(
    ("accept", "content_type", "body"),
    [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", b""),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", b"# EOF\n"),
    ],
)
def test_metrics_in_the_format_that_is_asked_for(
    accept: str, content_type: str, body: bytes
) -> None:
    answer = ask("/metrics", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.content == body


def test_health_and_ready_are_mirrored() -> None:
    node = Node([])
    assert ask("/health", node).json() == {
        "status": "ok",
        "version": "1.2.3",
        "uptime": 4.0,
        "stats": {"connections": {"current": 0}},
    }
    assert (ask("/ready", node).status_code, ask("/ready", node).json()) == (200, {"ready": True})
    node.ready = (False, "draining")
    assert ask("/ready", node).status_code == 503
    assert ask("/ready", node).json() == {"ready": False, "reason": "draining"}


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/x", "GET", 404), ("/stats", "POST", 405)]
)
def test_errors_are_json(path: str, method: str, status: int) -> None:
    answer = ask(path, method=method)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


# The list of connections.


def test_a_row_says_what_is_known() -> None:
    now = time.monotonic()
    peer = Peer(7, "alice", "free", "2001:db8::1", ("a", "b"), 12, False, now - 60, now - 5)
    (row,) = ask("/connections", Node([peer])).json()["connections"]
    assert 60 <= row.pop("age") < 65
    assert 5 <= row.pop("idle") < 10
    assert row == {
        "id": "n-7",
        "number": 7,
        "user": "alice",
        "tier": "free",
        "address": "2001:db8::1",
        "rooms": ["a", "b"],
        "buffered": 12,
    }


def test_none() -> None:
    assert ask("/connections").json() == {"connections": [], "next": None}


def test_pages_by_number_cover_everything_once() -> None:
    node = Node([Peer(number) for number in (9, 2, 30, 4, 11, 25, 1)])
    seen: list[list[int]] = []
    query = "?limit=3"
    while True:
        page = ask(f"/connections{query}", node).json()
        seen.append([row["number"] for row in page["connections"]])
        if page["next"] is None:
            break
        # Who comes or goes between two pages moves nobody else.
        node.peers = [peer for peer in node.peers if peer.number != 9] + [Peer(99)]
        query = f"?limit=3&after={page['next']}"
    assert seen == [[1, 2, 4], [11, 25, 30], [99, 99]]


@pytest.mark.parametrize(("count", "rows", "more"), [(100, 100, None), (101, 100, 100)])
def test_a_page_has_100_rows_unless_told(count: int, rows: int, more: int | None) -> None:
    page = ask("/connections", Node([Peer(number) for number in range(1, count + 1)])).json()
    assert len(page["connections"]) == rows
    assert page["next"] == more


def test_connections_that_have_ended_are_left_out() -> None:
    node = Node([Peer(number, closed=number % 2 == 0) for number in range(1, 2001)])
    assert listed("?limit=1000", node) == list(range(1, 2001, 2))


def test_filters() -> None:
    node = Node(
        [
            Peer(1, "alice", address="192.0.2.1"),
            Peer(2, "alice", address="2001:db8::1"),
            Peer(3, "bob", address="192.0.2.1"),
            Peer(4, None, address="192.0.2.1"),
        ]
    )
    for peer in node.peers[1:]:
        node.rooms.join(peer, "a b")
    assert listed("?user=alice", node) == [1, 2]
    assert listed("?ip=192.0.2.1", node) == [1, 3, 4]
    assert listed("?ip=::ffff:192.0.2.1", node) == [1, 3, 4]
    assert listed("?ip=2001:DB8:0::1", node) == [2]
    assert listed("?room=a%20b", node) == [2, 3, 4]
    assert listed("?room=a+b&user=alice", node) == [2]
    assert listed("?user=alice&ip=192.0.2.1&after=1", node) == []
    assert listed("?user=", node) == []
    assert listed("?room=other", node) == []
    assert listed("?user=None", node) == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=0", 'limit: "0" is not a whole number from 1 to 1000'),
        ("limit=1001", 'limit: "1001" is not'),
        ("limit=-1", 'limit: "-1" is not'),
        ("limit=1.0", 'limit: "1.0" is not'),
        ("limit=", 'limit: "" is not'),
        ("limit=%D9%A3", 'limit: "٣" is not'),
        ("limit=" + "9" * 5000, 'limit: "999'),
        ("after=-1", 'after: "-1" is not a whole number from 0'),
        ("after=x", 'after: "x" is not'),
        ("after=9223372036854775808", 'after: "9223372036854775808" is not'),
        ("ip=alice", 'ip: "alice" is not an IP address'),
        ("ip=192.0.2.1:80", 'ip: "192.0.2.1:80" is not'),
        ("ip=" + "1" * 5000, 'ip: "111'),
        ("user=a&user=b", "user: given twice"),
        ("rooms=a", 'unknown parameter "rooms"; there are limit, after, user, ip, room'),
    ],
)
def test_wrong_parameters_are_named(query: str, said: str) -> None:
    answer = ask(f"/connections?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(said)
    assert len(answer.content) < 200


# Who is let in.


@pytest.mark.parametrize(
    "given",
    [
        None,
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer é",
    ],
)
@pytest.mark.parametrize("path", ["/stats", "/metrics", "/connections", "/nothing"])
def test_a_token_is_asked_for_when_set(given: str | None, path: str) -> None:
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    answer = ask(path, token=TOKEN, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert TOKEN not in answer.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_opens(scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert ask("/stats", token=TOKEN, headers=headers, base="http://gate.example").is_success


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_need_no_token(path: str) -> None:
    assert ask(path, token=TOKEN, base="http://gate.example").status_code == 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8001", "localhost:9", "LOCALHOST", "[::1]:8001", "[::1]"]
)
def test_without_a_token_names_of_this_machine_are_good(host: str) -> None:
    assert ask("/stats", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8001", "127.0.0.1.evil.example", "192.0.2.1", "[::2]", ""],
)
def test_without_a_token_other_names_are_not(host: str) -> None:
    answer = ask("/stats", headers={"Host": host})
    assert answer.status_code == 403
    assert "Host" in answer.json()["error"]


def test_a_long_list_lets_others_have_their_turn() -> None:
    node = Node([Peer(number) for number in range(5000)])
    app = admin_app(node, AdminSettings(), Nothing())  # type: ignore[arg-type]
    turns = SimpleNamespace(count=0)

    async def other() -> None:
        while True:
            turns.count += 1
            await asyncio.sleep(0)

    async def request() -> int:
        task = asyncio.create_task(other())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=LOCAL) as client:
            before = turns.count
            await client.get("/connections?user=nobody")
            task.cancel()
            return turns.count - before

    assert asyncio.run(request()) >= 5


def test_who_waits_to_be_let_in_is_no_connection_yet() -> None:
    assert listed("", Node([Peer(1), Peer(2, waits=True)])) == [1]
