"""Chromium as a client, with pages of the server's own origin and of others."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.browser.conftest import Visit
from tests.conftest import Start
from tests.support.certificates import make_certificate
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.tokens import SECRET, token

NATIVE = "tidegate.v1.json"


def page_of(server: Process) -> str:
    """A page of the server's own origin."""
    return f"{'https' if server.tls else 'http'}://127.0.0.1:{server.port}/health"


ECHO = """async (url) => {
  const socket = await opened(url);
  const results = [];
  for (const size of [0, 1, 125, 126, 65535, 65536, 300000]) {
    const text = "ü".repeat(size);
    socket.send(text);
    const same = (await socket.next()) === text;
    const bytes = Uint8Array.from({ length: size }, (_, n) => n * 7);
    socket.send(bytes);
    const back = new Uint8Array(await socket.next());
    results.push(same && back.length === size && back.every((byte, n) => byte === bytes[n]));
  }
  socket.close(4001, "bye");
  return { results, extensions: socket.extensions, close: await socket.closed };
}"""


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_echo(program: Start, visit: Visit, deflate: bool) -> None:
    settings = {"deflate": {"enabled": deflate, "max_ratio": 2000}}
    server = program("-m tests.support.handlers", settings)
    result = visit(page_of(server)).evaluate(ECHO, server.url)
    assert all(result["results"]), result
    assert ("permessage-deflate" in result["extensions"]) == deflate
    assert result["close"]["wasClean"]
    assert result["close"]["code"] == 4001
    server.wait_open(0)


def test_echo_over_tls(program: Start, visit: Visit, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = program(
        "-m tests.support.handlers", {"tls": {"certificate": str(certificate), "key": str(key)}}
    )
    result = visit(page_of(server)).evaluate(ECHO, server.url)
    assert all(result["results"]), result


JOIN = """async ([url, protocols]) => {
  window.socket = await opened(url, protocols);
  const welcome = JSON.parse(await socket.next());
  socket.send(JSON.stringify({ type: "join", room: "lobby", id: 1 }));
  return { welcome, ack: JSON.parse(await socket.next()), protocol: socket.protocol };
}"""


def test_two_pages_in_a_room(serve: Start, visit: Visit) -> None:
    server = serve({"auth": {"secret": SECRET}})
    pages = {name: visit(page_of(server)) for name in ("ann", "bob")}
    for members, (name, page) in enumerate(pages.items(), 1):
        protocols = [NATIVE, f"tidegate.token.{token(name)}"]
        joined = page.evaluate(JOIN, [server.url, protocols])
        assert joined["protocol"] == NATIVE
        assert joined["welcome"]["userId"] == name
        assert joined["ack"] == {"type": "ack", "id": 1, "members": members}
    say = """socket.send(JSON.stringify({type: "room_message", room: "lobby", data: "hello"}))"""
    pages["ann"].evaluate(say)
    for page in pages.values():
        heard = json.loads(page.evaluate("socket.next()"))
        assert (heard["data"], heard["from"]) == ("hello", "ann")
    # A page that goes away takes its connection with it.
    pages["ann"].close()
    server.wait_open(1)


def test_a_refused_page_learns_why_and_when_to_come_back(serve: Start, visit: Visit) -> None:
    server = serve({"limits": {"per_ip": 0}})
    script = f"async (url) => (await opened(url, ['{NATIVE}'])).closed"
    close = visit(page_of(server)).evaluate(script, server.url)
    assert close["code"] == 1013
    assert json.loads(close["reason"]) == {"error": "ip_limit", "retryAfter": 10}


def test_a_page_without_a_token_learns_that(serve: Start, visit: Visit) -> None:
    server = serve({"auth": {"secret": SECRET, "anonymous": False, "first_message": False}})
    script = f"async (url) => (await opened(url, ['{NATIVE}'])).closed"
    close = visit(page_of(server)).evaluate(script, server.url)
    assert close["code"] == 4501
    assert json.loads(close["reason"]) == {"error": "unauthorized", "retryAfter": None}


OPENED = """async ([url, protocols]) => {
  const socket = await opened(url, protocols);
  socket.send("mine");
  return [socket.protocol, await socket.next()];
}"""
CLOSED = "async ([url, protocols]) => (await opened(url, protocols)).closed"
FAILED = "([url, protocols]) => opened(url, protocols).then(() => 'open', () => 'refused')"


def test_a_page_with_a_token_in_a_server_without_subprotocols(program: Start, visit: Visit) -> None:
    server = program("-m tests.support.handlers", {"auth": {"secret": SECRET, "anonymous": False}})
    page = visit(page_of(server))
    own = f"tidegate.token.{token('ann')}"
    assert page.evaluate(OPENED, [server.url, ["tidegate.v1", own]]) == ["tidegate.v1", "mine"]
    assert [row["user"] for row in server.connections()] == ["ann"]
    # A server may agree only to what is offered, and to send the token back would show it around.
    assert page.evaluate(FAILED, [server.url, [own]]) == "refused"
    wait_until(lambda: "offer tidegate.v1 as well" in server.log, 20, "the log says what to offer")
    assert own not in server.log
    close = page.evaluate(CLOSED, [server.url, ["tidegate.v1", "tidegate.token.wrong"]])
    assert close["code"] == 4501
    assert json.loads(close["reason"]) == {"error": "unauthorized", "retryAfter": None}


def test_a_page_refused_by_a_server_without_subprotocols(program: Start, visit: Visit) -> None:
    limits = {"limits": {"per_ip": 0}}
    server = program("-m tests.support.handlers", limits)
    page = visit(page_of(server))
    close = page.evaluate(CLOSED, [server.url, ["tidegate.v1"]])
    assert (close["code"], close["wasClean"]) == (1013, True)
    assert json.loads(close["reason"]) == {"error": "ip_limit", "retryAfter": 10}
    assert page.evaluate(FAILED, [server.url, []]) == "refused"
    assert server.stats()["rejections"]["ip_limit"] == 2

    server = program("-m tests.support.handlers", {**limits, "server": {"refuse": "http"}})
    page = visit(page_of(server))
    assert page.evaluate(FAILED, [server.url, ["tidegate.v1"]]) == "refused"
    assert server.stats()["rejections"]["ip_limit"] == 1


def test_a_page_refused_in_a_subprotocol_of_the_server(program: Start, visit: Visit) -> None:
    server = program("-m tests.support.handlers chat.v1", {"limits": {"per_ip": 0}})
    page = visit(page_of(server))
    for offered in (["chat.v1"], ["tidegate.v1"], ["chat.v1", "tidegate.v1"]):
        close = page.evaluate(CLOSED, [server.url, offered])
        assert (close["code"], json.loads(close["reason"])["error"]) == (1013, "ip_limit")
    elsewhere = server.url.replace("/ws", "/elsewhere")
    assert page.evaluate(CLOSED, [elsewhere, ["chat.v1"]])["code"] == 1008


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The address of a page of another origin."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>elsewhere</title>")

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Page) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{site.server_port}"
        site.shutdown()
        thread.join()


REFUSED = "(url) => opened(url).then(() => 'open', () => 'refused')"


def test_pages_of_other_origins_do_not_get_in(serve: Start, visit: Visit, elsewhere: str) -> None:
    server = serve()
    assert visit(page_of(server)).evaluate(REFUSED, server.url) == "open"
    assert visit(elsewhere).evaluate(REFUSED, server.url) == "refused"
    assert server.stats()["rejections"]["origin"] == 1
    close = f"async (url) => (await opened(url, ['{NATIVE}'])).closed"
    assert visit(elsewhere).evaluate(close, server.url)["code"] == 1008

    server = serve({"server": {"origins": [elsewhere]}})
    assert visit(elsewhere).evaluate(REFUSED, server.url) == "open"
    assert visit(page_of(server)).evaluate(REFUSED, server.url) == "refused"


@pytest.mark.parametrize(
    ("page", "origin"),
    [
        ("http://127.0.0.1:{}", "HTTP://127.1:{}"),
        ("http://localhost:{}", "http://LocalHost:*"),
        # Chromium finds all names below localhost on this machine.
        ("http://app.localhost:{}", "http://*.localhost:*"),
        ("http://bücher.localhost:{}", "http://Bücher.localhost:{}"),
    ],
)
def test_pages_of_listed_origins_get_in(
    serve: Start, visit: Visit, elsewhere: str, page: str, origin: str
) -> None:
    port = elsewhere.rpartition(":")[2]
    server = serve({"server": {"origins": [origin.format(port)]}})
    assert visit(page.format(port)).evaluate(REFUSED, server.url) == "open"
    assert visit(f"http://a.b.localhost:{port}").evaluate(REFUSED, server.url) == "refused"
    assert server.stats()["rejections"]["origin"] == 1


def test_a_page_from_a_file_gets_in_where_that_is_listed(
    serve: Start, visit: Visit, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text("<title>from a file</title>")
    page = path.as_uri()
    assert visit(page).evaluate(REFUSED, serve().url) == "refused"
    server = serve({"server": {"origins": ["file://", "null"]}})
    assert visit(page).evaluate(REFUSED, server.url) == "open"


def test_answering_pings_and_closing_for_good(serve: Start, visit: Visit) -> None:
    server = serve({"heartbeat": {"interval": 0.3, "timeout": 0.5, "idle_timeout": 1.5}})
    script = "async (url) => (await opened(url)).closed"
    close = visit(page_of(server)).evaluate(script, server.url)
    assert (close["code"], close["wasClean"]) == (1000, True)
    assert json.loads(close["reason"]) == {"error": "idle_timeout", "retryAfter": None}
    assert server.metrics()["websocket_heartbeat_latency_seconds_count"] >= 3


def test_a_server_that_goes_away_says_so(serve: Start, visit: Visit) -> None:
    server = serve()
    page = visit(page_of(server))
    page.evaluate("async (url) => { window.socket = await opened(url); }", server.url)
    server.signal(signal.SIGINT)
    close = page.evaluate("socket.closed")
    assert (close["code"], close["wasClean"]) == (1001, True)
    assert server.process.wait(20) == 0
