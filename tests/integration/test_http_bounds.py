"""HTTP connections of an application: no address takes all, and idle ones make room."""

from __future__ import annotations

import json
import resource

import pytest

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Raw

RUN = "-m tidegate run tests.support.http_app:app --no-access-log --timeout-keep-alive 60"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"PUT /raw HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"  # the body never comes
DESCRIPTORS = 128


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def asked(server: Process, request: bytes = GET, **options: str) -> Raw:
    raw = server.connect(timeout=20, **options)
    raw.send(request)
    return raw


def test_one_more_of_an_address_is_refused(program: Start) -> None:
    server = program(f"{RUN} --set limits.http_per_ip=5")
    server.expects_errors = True  # of the application, whose clients leave
    held = [asked(server, POST) for _ in range(3)] + [asked(server) for _ in range(2)]
    assert all(raw.response().status == 200 for raw in held[3:])
    with asked(server) as refused:
        response = refused.response()
    assert (response.status, response.headers["x-rejection-reason"]) == (429, "ip_limit")
    assert json.loads(response.body)["retryAfter"] > 0
    # Those who are there are served on, and there is room when one has left.
    held[4].send(GET)
    assert held[4].response().status == 200
    with server.connect() as raw:
        raw.open(path="/ws")
    held[0].close()

    def served() -> bool:
        with asked(server) as raw:
            return raw.response().status == 200

    wait_until(served, 10, "there is room")
    # What was HTTP and is a WebSocket now counts there.
    held[3].open(path="/ws")
    wait_until(served, 10, "there is room")
    for raw in held:
        raw.close()


@pytest.mark.usefixtures("many_addresses")
def test_idle_ones_make_room_for_websockets_and_http(program: Start) -> None:
    server = program(RUN, prepare=few_descriptors)
    server.expects_errors = True  # of the application, whose clients leave
    idle: list[Raw] = []
    for number in range(2 * DESCRIPTORS):
        idle.append(asked(server, source=f"127.0.0.{2 + number % 100}"))
        assert idle[-1].response().status == 200
    webs = [server.connect().open(path="/ws") for _ in range(20)]
    for raw in webs:
        raw.send_frame(TEXT, "one")
        assert raw.message() == "one"
    for raw in (*idle, *webs):
        raw.close()


@pytest.mark.usefixtures("many_addresses")
def test_busy_ones_of_many_addresses_are_not_ended_and_others_are_refused(program: Start) -> None:
    server = program(RUN, prepare=few_descriptors)
    server.expects_errors = True  # of the application, whose clients leave
    busy: list[Raw] = []
    status = 0
    while status != 503:
        busy.append(asked(server, POST, source=f"127.0.0.{2 + len(busy)}"))
        assert len(busy) < DESCRIPTORS
        with asked(server) as raw:
            status = raw.response().status
    for raw in busy[:20]:
        raw.send(b"body body")
        assert json.loads(raw.response().body)["size"] == 9
    with asked(server) as raw:
        assert raw.response().status == 200
    assert server.get("/health")[0] == 200
    for raw in busy:
        raw.close()


def test_clients_behind_a_proxy_header_are_counted_by_their_own_address(program: Start) -> None:
    settings = {
        "proxies": {"trusted": ["127.0.0.1"], "protocol": True},
        "limits": {"http_per_ip": 2},
    }
    server = program(RUN, settings, admin=False)
    held = []
    for client, status in (("9", 200), ("9", 200), ("9", 429), ("8", 200)):
        header = f"PROXY TCP4 192.0.2.{client} 127.0.0.1 5555 80\r\n".encode()
        held.append(asked(server, header + GET))
        assert held[-1].response().status == status
    for raw in held:
        raw.close()
