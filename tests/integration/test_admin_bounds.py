"""What a client can make the admin listener hold, before and without a token."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Start
from tests.support.net import allow_descriptors, wait_until
from tests.support.process import Process, get
from tests.support.raw import Raw, Response

DESCRIPTORS = 400
MIB = 1024 * 1024
TOKEN = "a-token-of-the-operator"
SETTINGS = {"admin": {"token": TOKEN}}


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


@pytest.fixture(autouse=True)
def _many_clients() -> None:
    assert allow_descriptors(1500)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def server(shared_serve: Start) -> Process:
    return shared_serve(SETTINGS)


def bad_requests(server: Process) -> int:
    """What the metric says of requests that were refused before any look at a token."""
    status, text = server.get("/metrics", TOKEN)
    assert status == 200
    (line,) = [x for x in text.splitlines() if x.startswith("tidegate_admin_bad_requests_total ")]
    return int(float(line.split()[1]))


def pour(server: Process, head: bytes, block: bytes, most: int) -> tuple[Response | None, int]:
    """Send a request whose end never comes; what was answered, and how much was taken."""
    with Raw(server.admin_port) as raw:
        taken = 0
        with contextlib.suppress(OSError):
            raw.send(head)
            while taken < most:
                raw.send(block)
                taken += len(block)
        try:
            return raw.response(), taken
        except OSError:
            return None, taken  # a reset over what was still on its way


GET = b"GET /stats HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = b"POST /disconnect HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\n" % (
    TOKEN.encode()
)
CHUNKED = POST + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "block"),
    [
        (GET + b"X: ", b"x" * 65536),
        (GET, b"X: y\r\n" * 10_000),
        (b"GET /", b"x" * 65536),
        (b"GET /stats?", b"x" * 65536),
        (b"", b"x" * 65536),
        (GET + b"Content-Length: 1000000000\r\n\r\n", b"x" * 65536),
        (POST + b"Content-Length: 1000000000\r\n\r\n", b"x" * 65536),
        (CHUNKED, b"1\r\nx\r\n" * 10_000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"X: y\r\n" * 10_000),
        (CHUNKED + b"1;", b"x" * 65536),
    ],
    ids=[
        *("header", "headers", "path", "query", "method", "unread body", "body"),
        *("chunks", "trailers", "chunk extension"),
    ],
)
def test_a_hundred_megabytes_are_not_kept(server: Process, head: bytes, block: bytes) -> None:
    assert server.get("/health")[0] == 200
    before = server.usage.memory_info().rss
    response, taken = pour(server, head, block, 100 * MIB)
    assert taken < 30 * MIB, "what the kernels hold, and no more"
    if response is not None:
        assert response.status in (400, 401, 403, 413, 415, 431)
    assert server.usage.memory_info().rss - before < 8 * MIB
    assert server.get("/health")[0] == 200
    assert server.log.count("\n") < 20
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("fields", "size", "status"),
    [(1, 30_000, 401), (1, 33_000, 431), (100, 10, 401), (200, 10, 431)],
)
def test_the_bounds_of_a_head(server: Process, fields: int, size: int, status: int) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"x" * size) for number in range(fields))
    with Raw(server.admin_port) as raw:
        raw.send(GET + lines + b"\r\n")
        response = raw.response()
        assert response.status == status
        assert b'"error"' in response.body


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
def test_a_request_for_an_upgrade_is_answered_and_not_logged(
    server: Process, upgrade: bytes
) -> None:
    lines = server.log.count("\n")
    before = bad_requests(server)
    with Raw(server.admin_port) as raw:
        raw.send(
            b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
            b"Upgrade: %s\r\n\r\n" % upgrade
        )
        assert raw.response().status == 200
    with Raw(server.admin_port) as raw:
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert raw.response().status == 400
    with Raw(server.admin_port) as raw:
        raw.send(b"\x16\x03\x01\x02\x00")
        assert raw.response().status == 400
    assert server.log.count("\n") == lines
    assert bad_requests(server) == before + 2


def test_a_client_that_leaves_within_its_body_is_not_logged(server: Process) -> None:
    lines = server.log.count("\n")
    for _ in range(3):
        with Raw(server.admin_port) as raw:
            raw.send(CHUNKED + b"5\r\n{}\r\n")
            server.settle()
    assert server.get("/health")[0] == 200
    assert server.log.count("\n") == lines


def idle(_raw: Raw) -> None:
    pass


def half_a_head(raw: Raw) -> None:
    raw.send(GET)


def answered_and_kept(raw: Raw) -> None:
    raw.send(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")


@pytest.mark.parametrize("do", [idle, half_a_head, answered_and_kept], ids=lambda do: do.__name__)
def test_connections_to_the_admin_listener_do_not_take_those_of_clients(
    serve: Start, stack: contextlib.ExitStack, do: Callable[[Raw], None]
) -> None:
    server = serve(prepare=few_descriptors)
    for _ in range(DESCRIPTORS):
        raw = stack.enter_context(Raw(server.admin_port))
        with contextlib.suppress(OSError):
            do(raw)
    for _ in range(100):
        stack.enter_context(server.connect()).open()
    # An operator gets in as well: the one that has waited longest made room.
    assert server.get("/health")[0] == 200
    assert server.open() == 100
    assert server.usage.num_fds() < 100 + DESCRIPTORS // 8 + 40
    assert "out of file descriptors" not in server.log


def test_clients_do_not_take_the_descriptors_of_the_admin_listener(
    serve: Start, stack: contextlib.ExitStack
) -> None:
    server = serve({"limits": {"per_ip": 1000}}, prepare=few_descriptors)
    for _ in range(DESCRIPTORS):
        raw = stack.enter_context(server.connect())
        raw.send(b"GET /ws HTTP/1.1\r\n")
    for _ in range(DESCRIPTORS):
        raw = stack.enter_context(server.connect())
        raw.ask()
    operators = [stack.enter_context(Raw(server.admin_port)) for _ in range(30)]
    for raw in operators:
        raw.send(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert [raw.response().status for raw in operators] == [200] * 30
    assert get(server.port, "/health")[0] == 200


@pytest.mark.parametrize("do", [idle, half_a_head, answered_and_kept], ids=lambda do: do.__name__)
def test_a_connection_to_the_admin_listener_that_is_idle_ends(
    server: Process, do: Callable[[Raw], None]
) -> None:
    started = time.monotonic()
    with Raw(server.admin_port, timeout=30) as raw:
        do(raw)
        assert raw.gone()
    assert time.monotonic() - started < 20


def test_a_request_that_is_under_way_is_not_ended_for_others(
    server: Process, stack: contextlib.ExitStack
) -> None:
    raw = stack.enter_context(Raw(server.admin_port))
    raw.send(POST + b"Content-Type: application/json\r\nContent-Length: 14\r\n\r\n")
    server.settle()
    for _ in range(200):
        stack.enter_context(Raw(server.admin_port))
    wait_until(lambda: server.get("/health")[0] == 200, 20)
    raw.send(b'{"id":"nobody"')
    assert raw.response().status == 400
