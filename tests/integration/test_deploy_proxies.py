"""The files of `tidegate deploy haproxy` and `nginx` at work: two nodes behind each."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.certificates import client_context, combined
from tests.support.deploying import files, plan
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

    def __init__(self, port: int, nodes: list[Process], statistics: int) -> None:
        self.port = port
        self.nodes = nodes
        self.drained: list[Process] = []
        self._statistics = statistics

    def connect(self, source: str, **options: Any) -> Raw:
        """Connect from an address of this machine."""
        return Raw(self.port, source=source, **options)

    def drain(self, number: int) -> None:
        """Begin the drain of a node; it ends when its clients have left."""
        node = self.nodes[number]
        url = f"http://127.0.0.1:{node.admin_port}/drain?window=60"
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
        with urllib.request.urlopen(f"http://127.0.0.1:{self._statistics}/;csv", timeout=5) as page:
            rows = list(csv.DictReader(io.StringIO(page.read().decode())))
        return [
            row["status"]
            for row in rows
            if row["# pxname"] == backend and row["svname"].startswith("node")
        ]


@contextlib.contextmanager
def behind(
    name: str,
    settings: dict[str, Any],
    serve: Start,
    tool: Tool,
    folder: Path,
    tls: str = "",
) -> Iterator[Behind]:
    """Two nodes behind a proxy with the file that is written for it."""
    # Proxies want two descriptors for each connection that there may be.
    settings = {**settings, "limits": {"connections": 200, **settings.get("limits", {})}}
    nodes = [serve(settings), serve(settings)]
    own = plan(settings, nodes=tuple(Node("127.0.0.1", node.port) for node in nodes), tls=tls)
    ((file, text),) = files(name, own).items()
    port, statistics, plain = free_port(), free_port(), free_port()
    # Where it listens and who it runs as depends on the machine; all else stays as it is.
    changed = {
        "bind :443": f"bind 127.0.0.1:{port}",
        "bind :80": f"bind 127.0.0.1:{plain if tls else port}",
        "listen 80 ": f"listen 127.0.0.1:{port} ",
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "127.0.0.1:8404": f"127.0.0.1:{statistics}",
        "127.0.0.1:8405": f"127.0.0.1:{statistics}",
        "user haproxy": "" if os.getuid() else "user haproxy",
        "group haproxy": "" if os.getuid() else "group haproxy",
        "/run/nginx.pid": str(folder / "nginx.pid"),
        "http {\n": "http {\n"
        + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in TEMPORARY),
    }
    for before, after in changed.items():
        text = text.replace(before, after)
    (folder / file).write_text(text)
    command = {
        "haproxy": ["-db", "-f", file],
        "nginx": ["-c", str(folder / file), "-g", "daemon off;"],
    }[name]
    found = Behind(port, nodes, statistics)
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


TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


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
