"""The files of `tidegate deploy haproxy` and `nginx` at work: two nodes behind each."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.certificates import client_context, combined
from tests.support.deploying import files, here, plan
from tests.support.events import Events
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.proxies import Tool, fetched, running
from tests.support.raw import TEXT, Raw
from tidegate.deploy import Node

pytestmark = pytest.mark.usefixtures("many_addresses")

FORWARDED: dict[str, Any] = {
    "X-Forwarded-For": {"trusted": ["127.0.0.1"]},
    "Forwarded": {"trusted": ["127.0.0.1"], "header": "forwarded"},
    "PROXY": {"trusted": ["127.0.0.1"], "protocol": True},
}


class Behind:
    """A proxy and the nodes behind it."""

    def __init__(
        self, port: int, nodes: list[Process], statistics: int, settings: dict[str, Any]
    ) -> None:
        self.port = port
        self.settings = settings
        """Those that both nodes have."""
        self.nodes = nodes
        self.drained: list[Process] = []
        self._statistics = statistics

    def client(self, number: int, **options: Any) -> Raw:
        """Return a client that has connected, from an address by its number."""
        return self.connect(f"127.0.1.{number}", **options).open()

    def connect(self, source: str, **options: Any) -> Raw:
        """Connect from an address of this machine."""
        return Raw(self.port, source=source, **options)

    def drain(self, number: int, window: float = 60) -> None:
        """Begin the drain of a node; it ends when its clients have left."""
        node = self.nodes[number]
        url = f"http://127.0.0.1:{node.admin_port}/drain?window={window}"
        request = urllib.request.Request(url, method="POST")
        with urllib.request.urlopen(request, timeout=5) as response:
            assert response.status == 202
        self.drained.append(node)

    def open_at(self) -> list[int]:
        """How many connections each node has."""
        return [node.open() for node in self.nodes]

    def addresses(self) -> list[str]:
        """Where the clients of all nodes come from, as the nodes see it."""
        return sorted(row["address"] for node in self.nodes for row in node.connections())

    def state(self, backend: str) -> list[str]:
        """What HAProxy thinks of each node."""
        return [row["status"] for row in self._rows(backend)]

    def weights(self) -> list[int]:
        """How much of the new connections each node should get, as HAProxy knows it."""
        return [int(row["weight"]) for row in self._rows("ready")]

    def _rows(self, backend: str) -> list[dict[str, str]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._statistics}/;csv", timeout=5) as page:
            rows = list(csv.DictReader(io.StringIO(page.read().decode())))
        return [
            row
            for row in rows
            if row["# pxname"] == backend and row["svname"] not in ("FRONTEND", "BACKEND")
        ]


@contextlib.contextmanager
def behind(
    name: str,
    settings: dict[str, Any],
    serve: Start,
    tool: Tool,
    folder: Path,
    tls: str = "",
    *,
    routed: bool = False,
) -> Iterator[Behind]:
    """Two nodes behind a proxy with the file that is written for it."""
    # Proxies want two descriptors for each connection that there may be.
    settings = {**settings, "limits": {"connections": 200, **settings.get("limits", {})}}
    routes = ROUTES if routed else ("", "")
    places = list(zip(HOSTS, routes, strict=True))
    nodes = [serve(at(host, settings, route)) for host, route in places]
    own = plan(
        settings,
        nodes=tuple(
            Node(host, node.port, route) for (host, route), node in zip(places, nodes, strict=True)
        ),
        tls=tls,
    )
    ((file, text),) = files(name, own).items()
    port, statistics = free_port(), free_port()
    text = here(text, port, statistics, folder, tls=bool(tls))
    (folder / file).write_text(text)
    command = {
        "haproxy": ["-db", "-f", file],
        "nginx": ["-c", str(folder / file), "-g", "daemon off;"],
    }[name]
    found = Behind(port, nodes, statistics, settings)
    with running([tool(name), *command], folder):
        if name == "haproxy":
            wait_until(lambda: fetched(f"http://127.0.0.1:{statistics}/metrics") == 200, 15)
            # A check begins within its interval; until then HAProxy takes a node for good.
            wait_until(lambda: checked(found), 15, "HAProxy has checked the nodes")
        else:
            wait_until(lambda: listens(port), 15, "nginx listens")
        yield found
    for node in found.drained:
        assert node.process.wait(30) == 0, node.log


def at(host: str, settings: dict[str, Any], route: str = "") -> dict[str, Any]:
    """The settings of a node with an address of its own, as on a machine of its own."""
    server = {**settings.get("server", {}), "host": ["127.0.0.1", host], "route": route}
    agent = {**settings.get("agent_check", {}), "host": [host]}
    return {**settings, "server": server, "agent_check": agent}


# Both nodes have their agent_check.port, so they have addresses of their own.
HOSTS = ("127.0.0.11", "127.0.0.12")
ROUTES = ("node-one", "default")  # the second is a word of nginx


def checked(found: Behind) -> bool:
    return [*found.state("ready"), *found.state("alive")] == ["UP"] * 4


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), Raw(port):
        return True
    return False


@pytest.mark.parametrize("way", FORWARDED)
@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_nodes_see_the_real_address_of_each_client(
    name: str, way: str, serve: Start, tool: Tool, tmp_path: Path
) -> None:
    settings = {"proxies": FORWARDED[way], "server": {"refuse": "http"}}
    with behind(name, settings, serve, tool, tmp_path) as found, contextlib.ExitStack() as clients:
        sources = [f"127.0.0.{i}" for i in range(2, 8)]
        for source in sources:
            # What a client claims is not believed.
            claim = [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1")]
            client = clients.enter_context(found.connect(source)).open(headers=claim)
            client.send_frame(TEXT, '{"type": "ping"}')
            client.frame()
        assert found.addresses() == sources
        # Those with the fewest connections get the next one.
        assert found.open_at() == [3, 3]


@pytest.mark.parametrize("way", ["PROXY"])
def test_haproxy_keeps_an_address_on_one_node_so_that_its_limit_is_exact(
    way: str, serve: Start, tool: Tool, tmp_path: Path
) -> None:
    settings = {
        "proxies": FORWARDED[way],
        "server": {"refuse": "http"},
        "limits": {"per_ip": 2},
    }
    with (
        behind("haproxy", settings, serve, tool, tmp_path) as found,
        contextlib.ExitStack() as clients,
    ):
        for source in ("127.0.0.2", "127.0.0.3"):
            for _ in range(2):
                clients.enter_context(found.connect(source)).open()
            refused = clients.enter_context(found.connect(source)).ask()
            assert (refused.status, refused.headers["x-rejection-reason"]) == (429, "ip_limit")
        assert found.open_at() == [2, 2]


@pytest.mark.parametrize("way", ["X-Forwarded-For", "PROXY"])
def test_a_draining_node_gets_nobody_new_from_haproxy(
    way: str, serve: Start, tool: Tool, tmp_path: Path
) -> None:
    # The usual way to refuse: by a close frame, which no proxy sees.
    settings = {"proxies": FORWARDED[way]}
    with (
        behind("haproxy", settings, serve, tool, tmp_path) as found,
        contextlib.ExitStack() as clients,
    ):
        clients.enter_context(found.connect("127.0.0.2")).open()
        first = found.open_at().index(1)
        found.drain(first)
        wait_until(lambda: found.state("ready")[first] == "DOWN", 10, "HAProxy knows of the drain")
        # The address was on this node, and has the fewest connections elsewhere.
        for i in range(2, 8):
            clients.enter_context(found.connect(f"127.0.0.{i}")).open()
        accepted = [node.metrics()[ACCEPTED] for node in found.nodes]
        assert accepted[first] == 1
        assert accepted[1 - first] == 6
        # When all of them drain, one still says why, and when to come back.
        found.drain(1 - first)
        wait_until(lambda: found.state("ready") == ["DOWN"] * 2, 10, "HAProxy knows of both")
        with found.connect("127.0.0.9") as late:
            refused = late.ask()
            assert (refused.status, refused.headers["x-rejection-reason"]) == (503, "draining")
            assert int(refused.headers["retry-after"]) > 0


@pytest.mark.parametrize("way", ["PROXY"])
def test_haproxy_asks_the_nodes_how_much_they_should_get(
    way: str, serve: Start, tool: Tool, tmp_path: Path
) -> None:
    settings = {
        "proxies": FORWARDED[way],
        "server": {"refuse": "http"},
        "agent_check": {"enabled": True, "port": free_port()},
    }
    with (
        behind("haproxy", settings, serve, tool, tmp_path) as found,
        contextlib.ExitStack() as clients,
    ):
        first, second = found.nodes
        wait_until(lambda: found.weights() == [100, 100], 15, "both are idle")
        # HAProxy knows nothing of clients that come by another way: the node does.
        for number in range(100):
            head = [f"PROXY TCP4 127.0.2.{number} 127.0.0.1 9 9\r\n"] if way == "PROXY" else []
            clients.enter_context(direct(first, head))
        wait_until(lambda: found.weights() == [50, 100], 15, "the first one is half full")
        for number in range(30):
            clients.enter_context(found.client(number))
        more, most = first.open() - 100, second.open()
        assert more + most == 30
        assert 5 <= more <= 13, "half as many as the other one gets"
        # What drains gets nobody new.
        found.drain(0, window=2)
        wait_until(lambda: found.state("ready")[0] != "UP", 15, "HAProxy knows of the drain")
        for number in range(30, 34):
            clients.enter_context(found.client(number))
        assert second.open() == most + 4
        assert first.process.wait(30) == 0
        # It comes back, and gets clients again.
        found.nodes[0] = serve(at(HOSTS[0], found.settings), port=first.port)
        wait_until(
            lambda: found.state("ready") == ["UP", "UP"], 15, "HAProxy knows that it is back"
        )
        others = itertools.count(34)
        wait_until(
            lambda: clients.enter_context(found.client(next(others))) and found.nodes[0].open(),
            20,
            "the node that is back gets a client",
        )


@pytest.mark.parametrize(("name", "way"), [("haproxy", "PROXY"), ("nginx", "Forwarded")])
def test_a_route_brings_a_client_back_to_its_node(
    name: str, way: str, serve: Start, tool: Tool, tmp_path: Path
) -> None:
    pem = combined(tmp_path)
    settings = {"proxies": FORWARDED[way], "server": {"refuse": "http"}}
    with (
        behind(name, settings, serve, tool, tmp_path, str(pem), routed=True) as found,
        contextlib.ExitStack() as clients,
    ):
        context = client_context(tmp_path / "certificate.pem")
        numbers = itertools.count(1)

        def come(route: str) -> str:
            """Connect with a route; returns that of the node that a new client gets."""
            client = found.connect(f"127.0.1.{next(numbers)}", tls=context)
            clients.enter_context(client).open(path=f"/ws?a=b&route={route}")
            return str(json.loads(client.message())["route"])

        # Both nodes have all that come back to them, however many that are.
        for route in (*ROUTES, ROUTES[0]):
            assert [come(route) for _ in range(4)] == [route] * 4
        assert found.addresses() == sorted(f"127.0.1.{number}" for number in range(1, 13))
        # A route that is none, or tries to be more, is as good as no route.
        for route in ("", "gone", "tidegate", "..%2f", "%00", "a" * 500):
            assert come(route) in ROUTES
        # A node that drains gets nobody new; the other one serves.
        found.drain(0)
        if name == "haproxy":
            wait_until(lambda: found.state("ready")[0] != "UP", 15, "HAProxy knows of the drain")
        accepted = found.nodes[0].metrics()[ACCEPTED]
        assert [come(ROUTES[0]) for _ in range(4)] == [ROUTES[1]] * 4
        assert found.nodes[0].metrics()[ACCEPTED] == accepted
        # So it does when the node is gone; and when it is back, its clients come back to it.
        assert found.nodes[0].stop() == 0
        found.drained.clear()
        assert [come(ROUTES[0]) for _ in range(4)] == [ROUTES[1]] * 4
        port = found.nodes[0].port
        found.nodes[0] = serve(at(HOSTS[0], found.settings, ROUTES[0]), port=port)
        wait_until(lambda: come(ROUTES[0]) == ROUTES[0], 30, "a client comes back to the node")


def direct(node: Process, head: list[str]) -> Raw:
    client = node.connect()
    for line in head:
        client.send(line.encode())
    return client.open()


ACCEPTED = 'websocket_connections_total{result="accepted"}'


@pytest.mark.parametrize("way", ["Forwarded"])
def test_nginx_asks_the_next_node_where_one_drains(
    way: str, serve: Start, tool: Tool, tmp_path: Path
) -> None:
    settings = {"proxies": FORWARDED[way], "server": {"refuse": "http"}}
    with (
        behind("nginx", settings, serve, tool, tmp_path) as found,
        contextlib.ExitStack() as clients,
    ):
        found.drain(0)
        for i in range(2, 8):
            clients.enter_context(found.connect(f"127.0.0.{i}")).open()
        assert found.open_at() == [0, 6]
        found.drain(1)
        with found.connect("127.0.0.9") as late:
            refused = late.ask()
            assert refused.status == 503
            # The node's own words, or those of nginx when it has just given up on both.
            assert refused.headers["x-rejection-reason"] in ("draining", "breaker")
            assert int(refused.headers["retry-after"]) > 0


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_a_proxy_without_nodes_says_when_to_come_back(
    name: str, serve: Start, tool: Tool, tmp_path: Path
) -> None:
    settings = {"proxies": FORWARDED["X-Forwarded-For"]}
    with behind(name, settings, serve, tool, tmp_path) as found:
        for node in found.nodes:
            assert node.stop() == 0
        if name == "haproxy":
            wait_until(lambda: found.state("alive") == ["DOWN"] * 2, 20, "HAProxy knows")
        with found.connect("127.0.0.2") as client:
            refused = client.ask()
        assert (refused.status, refused.headers["x-rejection-reason"]) == (503, "breaker")
        assert refused.headers["retry-after"] == "10"
        assert json.loads(refused.body) == {
            "error": "breaker",
            "message": "The server is out of rotation for a while",
            "retryAfter": 10,
        }


def test_a_full_node_gets_nobody_new_while_another_has_room(
    serve: Start, tool: Tool, tmp_path: Path
) -> None:
    settings = {
        "proxies": FORWARDED["X-Forwarded-For"],
        "server": {"refuse": "http"},
        "limits": {"connections": 2},
    }
    with (
        behind("haproxy", settings, serve, tool, tmp_path) as found,
        contextlib.ExitStack() as clients,
    ):
        # All of one address go to one node, until that is full.
        for _ in range(2):
            clients.enter_context(found.connect("127.0.0.2")).open()
        wait_until(lambda: sorted(found.state("ready")) == ["DOWN", "UP"], 10, "one is full")
        for _ in range(2):
            clients.enter_context(found.connect("127.0.0.2")).open()
        assert found.open_at() == [2, 2]
        wait_until(lambda: found.state("ready") == ["DOWN"] * 2, 10, "both are full")
        refused = clients.enter_context(found.connect("127.0.0.3")).ask()
        assert (refused.status, refused.headers["x-rejection-reason"]) == (503, "server_limit")


@pytest.mark.parametrize(
    ("name", "way"), [("haproxy", "PROXY"), ("nginx", "X-Forwarded-For"), ("nginx", "PROXY")]
)
def test_clients_speak_tls_to_the_proxy(
    name: str, way: str, serve: Start, tool: Tool, tmp_path: Path
) -> None:
    pem = combined(tmp_path)
    settings = {"proxies": FORWARDED[way], "server": {"refuse": "http"}}
    with behind(name, settings, serve, tool, tmp_path, tls=str(pem)) as found:
        context = client_context(tmp_path / "certificate.pem")
        with found.connect("127.0.0.2", tls=context) as client:
            client.open()
            assert found.addresses() == ["127.0.0.2"]


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_streams_of_events_pass_at_once_and_their_posts_reach_them(
    name: str, serve: Start, tool: Tool, tmp_path: Path
) -> None:
    settings = {
        "server": {"sse": "/sse"},
        "proxies": FORWARDED["X-Forwarded-For"],
        # HAProxy sees that a client has left when there is something to send to it.
        "heartbeat": {"interval": 1, "timeout": 5},
    }
    with behind(name, settings, serve, tool, tmp_path) as found:
        with Events(found.port) as ann, Events(found.port) as bob:
            for client in (ann, bob):
                assert client.next()["type"] == "connected"
                assert client.ask("join", room="r")["type"] == "ack"
            for number in range(3):
                ann.say("room_message", room="r", data=number)
                for client in (ann, bob):
                    assert client.next("room_message")["data"] == number
            assert sum(found.open_at()) == 2
        wait_until(lambda: sum(found.open_at()) == 0, 30, "the nodes notice that both have left")
