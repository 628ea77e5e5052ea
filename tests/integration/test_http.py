"""HTTP of an ASGI application: the same on `tidegate run` as on uvicorn, plain and over TLS."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import signal
import ssl
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import Start
from tests.support.certificates import client_context, make_certificate
from tests.support.http_app import BLOCK, HERE
from tests.support.net import free_port, wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Raw

APP = "tests.support.http_app:app"
SECONDS = 30
SITES = ["tidegate-plain", "tidegate-tls", "uvicorn-plain", "uvicorn-tls"]
MIB = 1 << 20


class Site(NamedTuple):
    """A server that runs, and how to reach it."""

    name: str
    process: Process
    tls: ssl.SSLContext | None

    def connection(self) -> http.client.HTTPConnection:
        port = self.process.port
        if self.tls is None:
            return http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=self.tls)

    def raw(self, **options: Any) -> Raw:
        return Raw(self.process.port, timeout=SECONDS, tls=self.tls, **options)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request on a connection of its own."""
        with contextlib.closing(self.connection()) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return answer(connection, method, path, body, named)

    def record(self) -> Any:
        return self.ask("GET", "/record").json()

    def wait_for(self, kind: str, name: str) -> None:
        wait_until(lambda: name in self.record()[kind], SECONDS, f"{name} in {kind}")


class Answer(NamedTuple):
    """A response, whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def answer(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


@pytest.fixture(scope="module", params=SITES)
def site(
    request: pytest.FixtureRequest,
    shared_program: Start,
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    """A server that the tests share."""
    return start(request.param, shared_program, tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=SITES)
def own(request: pytest.FixtureRequest, program: Start, tmp_path: Path) -> Site:
    """A server for one test."""
    return start(request.param, program, tmp_path)


def start(which: str, program: Start, folder: Path) -> Site:
    name, how = which.split("-")
    options, context = "--timeout-keep-alive 1", None
    if how == "tls":
        certificate, key = make_certificate(folder)
        options += f" --ssl-certfile {certificate} --ssl-keyfile {key}"
        context = client_context(certificate)
    port = free_port()
    command = "tidegate run" if name == "tidegate" else "uvicorn"
    process = program(
        f"-m {command} {APP} --port {port} {options}",
        {"drain": {"window": 0.5}},
        port=port,
        admin=name == "tidegate",
    )
    process.expects_errors = True  # of the application
    return Site(name, process, context)


def test_routes_answer(site: Site) -> None:
    home = site.ask("GET", "/")
    assert (home.status, home.json()) == (200, {"hello": "world"})
    assert home.headers["Content-Type"] == "application/json"
    assert home.headers["Date"].endswith(" GMT")
    assert site.ask("GET", "/items/7?q=%C3%A9").json() == {"number": 7, "q": "\u00e9"}
    assert site.ask("GET", "/items/x").status == 422
    assert site.ask("GET", "/nowhere").status == 404
    assert site.ask("DELETE", "/items/7").status == 405
    assert site.ask("GET", "/sync").json() == "sync"
    empty = site.ask("GET", "/empty")
    assert (empty.status, empty.body, empty.headers["Content-Length"]) == (204, b"", None)
    item = {"name": "tide", "price": 1.5}
    made = site.ask("POST", "/items", json.dumps(item), Content_Type="application/json")
    assert (made.status, made.json(), made.headers["Location"]) == (201, item, "/items/tide")
    assert site.ask("POST", "/items", "{", Content_Type="application/json").status == 422
    cookies = site.ask("GET", "/cookies").headers.get_all("Set-Cookie")
    assert cookies == ["a=1; Path=/; SameSite=lax", "b=2; Path=/; SameSite=lax"]
    assert site.ask("GET", "/openapi.json").json()["openapi"]
    assert b"swagger" in site.ask("GET", "/docs").body


def test_the_scope_has_all_of_the_request(site: Site) -> None:
    path = "/scope?a=%20&a=1"
    with site.raw() as client:
        client.send(head("GET", path, "X-Twice: one", "x-Other: a\u00e9", "X-Twice: two"))
        own = client.sock.getsockname()
        scope = json.loads(client.response().body)
    assert scope["headers"] == [
        ["host", "x"],
        ["x-twice", "one"],
        ["x-other", "a\u00c3\u00a9"],
        ["x-twice", "two"],
    ]
    assert (scope["type"], scope["http_version"], scope["method"]) == ("http", "1.1", "GET")
    assert (scope["scheme"], scope["root_path"]) == ("https" if site.tls else "http", "")
    assert (scope["path"], scope["raw_path"], scope["query"]) == ("/scope", "/scope", "a=%20&a=1")
    assert scope["client"] == list(own)
    assert scope["server"] == ["127.0.0.1", site.process.port]


def test_static_files_have_types_ranges_and_tags(site: Site) -> None:
    text = HERE.read_bytes()
    whole = site.ask("GET", f"/static/{HERE.name}")
    assert (whole.status, whole.body) == (200, text)
    assert whole.headers.get_content_type() == "text/x-python"
    again = site.ask("GET", f"/static/{HERE.name}", If_None_Match=whole.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    part = site.ask("GET", "/file", Range="bytes=10-19")
    assert (part.status, part.body) == (206, text[10:20])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(text)}"
    assert site.ask("GET", "/static/none").status == 404
    assert site.ask("GET", "/static/..%2f..%2fpyproject.toml").status == 404


def test_head_has_the_headers_and_no_body(site: Site) -> None:
    with site.raw() as client:
        client.send(head("HEAD", "/") + head("HEAD", f"/static/{HERE.name}") + head("GET", "/"))
        first, second = until_blank(client), until_blank(client)
        assert b"content-length: 17" in first
        assert b"content-length: %d" % HERE.stat().st_size in second
        assert client.response().body == b'{"hello":"world"}'


def until_blank(client: Raw) -> bytes:
    """The next head."""
    read = b""
    while not read.endswith(b"\r\n\r\n"):
        read += client.exactly(1)
    return read


def test_a_connection_serves_many_requests_and_a_websocket_at_last(site: Site) -> None:
    with contextlib.closing(site.connection()) as connection:
        for number in range(50):
            assert answer(connection, "GET", f"/items/{number}").json()["number"] == number
        sent = answer(connection, "PUT", "/raw", BLOCK)
        assert sent.json()["size"] == len(BLOCK)
    with site.raw() as client:
        client.send(head("GET", "/"))
        assert client.response().status == 200
        client.open(path="/ws")
        client.send_frame(TEXT, "one")
        assert client.message() == "one"
    with site.raw().open(path="/told") as client:
        told = json.loads(client.message())
        assert told["client"] == list(client.sock.getsockname())
        assert told["scheme"] == ("wss" if site.tls else "ws")


def test_pipelined_requests_are_answered_in_order(site: Site) -> None:
    paths = ["/wait/0.2", "/items/1", "/wait/0.05", "/sync", "/items/2"] * 3
    body = b"x" * 1000
    put = head("PUT", "/raw", f"Content-Length: {len(body)}") + body
    with site.raw() as client:
        client.send(b"".join(head("GET", path) for path in paths) + put + head("GET", "/items/9"))
        for path in paths:
            got = client.response().body.decode().strip('"')
            assert got == path.rpartition("/")[2] or f'"number":{path[-1]}' in got
        assert json.loads(client.response().body)["size"] == len(body)
        assert json.loads(client.response().body)["number"] == 9


def test_a_thousand_pipelined_requests_are_answered(site: Site) -> None:
    count = 1000
    with site.raw() as client:
        sender = threading.Thread(
            target=client.send, args=(b"".join(head("GET", f"/items/{n}") for n in range(count)),)
        )
        sender.start()
        for number in range(count):
            assert json.loads(client.response().body)["number"] == number
        sender.join()


def test_a_request_may_come_byte_by_byte(site: Site) -> None:
    request = head("PUT", "/raw", "Content-Length: 3") + b"abc"
    with site.raw() as client:
        for index in range(len(request)):
            client.send(request[index : index + 1])
            if index % 20 == 0:
                time.sleep(0.005)
        assert json.loads(client.response().body)["size"] == 3


@pytest.mark.parametrize("line", ["Connection: close", None], ids=["close", "http-1.0"])
def test_a_connection_that_shall_end_ends_after_the_response(site: Site, line: str | None) -> None:
    with site.raw() as client:
        request = head("GET", "/", line) if line else b"GET / HTTP/1.0\r\nHost: x\r\n\r\n"
        client.send(request)
        answered = client.end()
    assert answered.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in answered
    assert answered.endswith(b'{"hello":"world"}')


def test_an_idle_connection_ends_and_one_with_a_request_does_not(site: Site) -> None:
    with site.raw() as client:
        client.send(head("GET", "/wait/1.2"))  # longer than --timeout-keep-alive
        assert client.response().body == b'"1.2"'
        started = time.monotonic()
        assert client.end() == b""
        assert time.monotonic() - started > 0.5


def test_uploads_arrive_whole(site: Site) -> None:
    body = BLOCK * (50 * MIB // len(BLOCK))
    digest = hashlib.sha256(body).hexdigest()
    sent = site.ask("PUT", "/raw", body)
    assert sent.json() == {"size": 50 * MIB, "sha256": digest}
    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + body + b"\r\n--b--\r\n"
    )
    got = site.ask("POST", "/upload", form, Content_Type="multipart/form-data; boundary=b").json()
    assert got == {"name": "f.bin", "size": 50 * MIB, "sha256": digest}


def test_a_chunked_upload_to_a_slow_reader_arrives_whole(site: Site) -> None:
    blocks = 200
    chunks = (BLOCK[:50_000] for _ in range(blocks))
    with contextlib.closing(site.connection()) as connection:
        sent = answer(connection, "PUT", "/raw", chunks, {"X-Slow": "1"}).json()
    assert sent["size"] == 50_000 * blocks
    assert sent["sha256"] == hashlib.sha256(BLOCK[:50_000] * blocks).hexdigest()


def test_a_client_is_told_to_go_on(site: Site) -> None:
    with site.raw() as client:
        client.send(head("PUT", "/raw", "Content-Length: 4", "Expect: 100-continue"))
        assert until_blank(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"body")
        assert json.loads(client.response().body)["size"] == 4
        client.send(head("PUT", "/unread", "Content-Length: 4", "Expect: 100-continue"))
        assert client.response().status == 413


def test_a_body_that_nobody_reads_does_not_harm(site: Site) -> None:
    answered = site.ask("PUT", "/unread", b"x" * 1000)
    assert answered.status == 413
    with site.raw() as client:
        client.send(head("PUT", "/unread", f"Content-Length: {10 * MIB}"))
        assert client.response().status == 413


def test_large_headers_arrive(site: Site) -> None:
    value = "v" * 4000
    lines = [f"X-Large-{number}: {value}" for number in range(12)]
    with site.raw() as client:
        client.send(head("GET", "/scope", *lines))
        headers = json.loads(client.response().body)["headers"]
        assert headers == [["host", "x"], *[[f"x-large-{n}", value] for n in range(12)]]
        client.send(head("GET", f"/scope?{'q' * 8000}"))
        assert json.loads(client.response().body)["query"] == "q" * 8000


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01 not TLS either\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(site: Site, request_: bytes) -> None:
    with site.raw() as client:
        client.send(request_)
        answered = client.end()
    assert answered.startswith(b"HTTP/1.1 400 ")
    assert answered.endswith(b"Invalid HTTP request received.")


def test_an_upgrade_to_what_is_not_known_is_served_as_http(site: Site) -> None:
    lines = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    with site.raw() as client:
        client.send(head("GET", "/", *lines))
        assert client.response().body == b'{"hello":"world"}'


def test_a_stream_arrives_piece_by_piece(site: Site) -> None:
    with contextlib.closing(site.connection()) as connection:
        connection.request("GET", "/stream/5?pause=0.1")
        response = connection.getresponse()
        assert response.headers["Transfer-Encoding"] == "chunked"
        first = response.readline()
        started = time.monotonic()
        rest = response.read()
        assert time.monotonic() - started > 0.25
        assert first + rest == b"0\n1\n2\n3\n4\n"
        many = answer(connection, "GET", "/stream/2000")
        assert many.body == b"".join(b"%d\n" % number for number in range(2000))


def test_events_arrive_one_by_one(site: Site) -> None:
    with contextlib.closing(site.connection()) as connection:
        connection.request("GET", "/events", headers={"Accept": "text/event-stream"})
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        first = [response.readline() for _ in range(3)]
        started = time.monotonic()
        rest = response.read()
        assert time.monotonic() - started > 0.04
    assert first == [b"id: 0\n", b"data: event 0\n", b"\n"]
    assert rest == b"id: 1\ndata: event 1\n\nid: 2\ndata: event 2\n\n"


def test_a_large_response_waits_for_a_slow_client_and_arrives_whole(site: Site) -> None:
    blocks = 500
    with contextlib.closing(site.connection()) as connection:
        connection.request("GET", f"/large/{blocks}?name=slow")
        response = connection.getresponse()
        time.sleep(0.3)
        assert site.record()["sent"] < blocks
        digest = hashlib.sha256()
        while data := response.read(1 << 18):
            digest.update(data)
    assert digest.hexdigest() == hashlib.sha256(BLOCK * blocks).hexdigest()


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_ends_the_stream(site: Site, how: str) -> None:
    with site.raw() as client:
        client.send(head("GET", f"/endless?name={how}"))
        until_blank(client)
        client.exactly(20)
        client.reset() if how == "reset" else client.close()
    site.wait_for("ended", how)


def test_a_client_that_leaves_while_a_stream_waits_for_it_ends_it(site: Site) -> None:
    with site.raw(receive_buffer=8192) as client:
        client.send(head("GET", "/large/10000?name=stuck"))
        until_blank(client)
        wait_until(lambda: not grows(site), SECONDS, "it waits")
    site.wait_for("ended", "stuck")


def grows(site: Site) -> bool:
    before = site.record()["sent"]
    time.sleep(0.2)
    return bool(site.record()["sent"] != before)


def test_a_background_task_comes_after_the_response(site: Site) -> None:
    name = f"task-{time.monotonic()}"
    assert site.ask("GET", f"/background?name={name}").json() == "accepted"
    assert name not in site.record()["background"]
    site.wait_for("background", name)


def test_an_exception_is_a_500_and_later_ends_the_connection(site: Site) -> None:
    failed = site.ask("GET", "/raises")
    assert (failed.status, failed.body) == (500, b"Internal Server Error")
    with pytest.raises(http.client.IncompleteRead) as cut:
        site.ask("GET", "/raises-late")
    assert cut.value.partial == b"a beginning"
    # A thread writes the log.
    wait_until(lambda: site.process.log.count("ValueError: of the application") == 1)
    wait_until(lambda: site.process.log.count("ValueError: of the stream") == 1)


def test_responses_under_way_are_finished_after_sigterm(own: Site) -> None:
    count = 15
    with contextlib.closing(own.connection()) as idle, contextlib.closing(own.connection()) as busy:
        assert answer(idle, "GET", "/").status == 200
        busy.request("GET", f"/stream/{count}?pause=0.1")
        response = busy.getresponse()
        first = response.readline()
        own.process.signal(signal.SIGTERM)
        rest = response.read()
    assert first + rest == b"".join(b"%d\n" % number for number in range(count))
    own.process.process.wait(SECONDS)
    with pytest.raises(OSError, match="refused"):
        own.raw()
    if own.name == "tidegate":  # uvicorn ends itself by the signal
        assert own.process.process.returncode == 0
