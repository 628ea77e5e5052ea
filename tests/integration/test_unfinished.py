"""Few descriptors: what attempts that do not finish may hold, and what is left for others."""

from __future__ import annotations

import contextlib
import resource
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support.certificates import client_context, make_certificate
from tests.support.net import allow_descriptors, wait_until
from tests.support.process import Process, get
from tests.support.raw import TEXT, Raw, upgrade

DESCRIPTORS = 400
OTHERS = 40
ATTACKER = "127.0.0.2"

pytestmark = pytest.mark.usefixtures("many_addresses")


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


@pytest.fixture(autouse=True)
def _many_clients() -> None:
    assert allow_descriptors(1500)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> dict[str, str]:
    return {"certificate": str(certificate[0]), "key": str(certificate[1])}


@pytest.fixture
def context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return client_context(certificate[0])


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def half_a_request(raw: Raw) -> None:
    raw.send(upgrade()[:50])


def nothing(_raw: Raw) -> None:
    """The kernel hands it over after a second."""


def half_a_hello(raw: Raw) -> None:
    raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")


def half_a_proxy_header(raw: Raw) -> None:
    raw.send(b"\r\n\r\n\x00\r\nQUIT\n\x21\x11")


def refused_and_staying(raw: Raw) -> None:
    raw.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")


def attack(
    server: Process,
    stack: contextlib.ExitStack,
    do: Callable[[Raw], None],
    source: Callable[[int], str] = lambda _: ATTACKER,
) -> None:
    """Open more than there are descriptors, and keep all of them."""
    for number in range(DESCRIPTORS + 100):
        raw = stack.enter_context(server.connect(source=source(number), timeout=20))
        with contextlib.suppress(OSError):  # it may have been ended already
            do(raw)


def others_get_in(
    server: Process,
    stack: contextlib.ExitStack,
    tls: ssl.SSLContext | None = None,
    head: bytes = b"",
) -> int:
    count = 0
    for number in range(OTHERS):
        raw = stack.enter_context(server.connect(source=f"127.0.1.{number + 1}", tls=tls))
        raw.send(head)
        if not head:  # in two pieces, so that it has to wait like those of the attacker
            request = upgrade()
            raw.send(request[:60])
            server.settle()
            raw.send(request[60:])
        else:
            raw.send(upgrade())
        count += raw.response().status == 101
    return count


PLAIN = [half_a_request, nothing, refused_and_staying]


@pytest.mark.parametrize("do", PLAIN, ids=lambda do: do.__name__)
def test_an_address_with_all_that_it_can_hold_keeps_nobody_out(
    serve: Start, stack: contextlib.ExitStack, do: Callable[[Raw], None]
) -> None:
    server = serve({"server": {"handshake_timeout": 30}}, prepare=few_descriptors)
    attack(server, stack, do)
    assert others_get_in(server, stack) == OTHERS
    assert "out of file descriptors" not in server.log
    assert get(server.port, "/health")[0] == 200


@pytest.mark.parametrize("do", [half_a_hello, nothing], ids=lambda do: do.__name__)
def test_an_address_with_half_tls_handshakes_keeps_nobody_out(
    serve: Start,
    stack: contextlib.ExitStack,
    tls: dict[str, str],
    context: ssl.SSLContext,
    do: Callable[[Raw], None],
) -> None:
    settings = {"server": {"handshake_timeout": 30}, "tls": tls}
    server = serve(settings, prepare=few_descriptors)
    attack(server, stack, do)
    assert others_get_in(server, stack, context) == OTHERS
    assert get(server.port, "/health", tls=True)[0] == 200


def test_an_address_with_half_proxy_headers_keeps_nobody_out(
    serve: Start, stack: contextlib.ExitStack
) -> None:
    settings = {
        "server": {"handshake_timeout": 30},
        "proxies": {"protocol": True, "trusted": ["127.0.0.1"]},
    }
    server = serve(settings, prepare=few_descriptors)
    attack(server, stack, half_a_proxy_header)
    local = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
    assert others_get_in(server, stack, head=local) == OTHERS


def test_the_client_of_a_proxy_is_counted_and_the_proxy_is_not(
    serve: Start, stack: contextlib.ExitStack
) -> None:
    """All come from one proxy; one client behind it has all that it can hold."""
    settings = {
        "server": {"handshake_timeout": 30},
        "proxies": {"protocol": True, "trusted": ["127.0.0.2"]},
    }
    server = serve(settings, prepare=few_descriptors)

    def head(client: int) -> bytes:
        addresses = bytes([203, 0, 113, client, 127, 0, 0, 1]) + b"\x01\x00\x02\x00"
        return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + addresses

    attack(server, stack, lambda raw: raw.send(head(1) + upgrade()[:50]))
    for client in range(2, OTHERS + 2):
        raw = stack.enter_context(server.connect(source=ATTACKER))
        raw.send(head(client) + upgrade()[:60])
        server.settle()
        raw.send(upgrade()[60:])
        assert raw.response().status == 101
    # On a busy machine some are refused for want of a descriptor, and some a little later.
    wait_until(lambda: server.stats()["rejections"]["ip_limit"] > DESCRIPTORS // 2)


@pytest.mark.parametrize("do", [half_a_request, refused_and_staying], ids=lambda do: do.__name__)
def test_many_addresses_that_hold_all_there_is_keep_nobody_out(
    serve: Start, stack: contextlib.ExitStack, do: Callable[[Raw], None]
) -> None:
    server = serve({"server": {"handshake_timeout": 30}}, prepare=few_descriptors)
    attack(server, stack, do, lambda number: f"127.0.2.{number % 250 + 1}")
    assert others_get_in(server, stack) == OTHERS
    assert get(server.port, "/health")[0] == 200


def test_some_addresses_that_come_again_and_again_keep_nobody_out(
    serve: Start, stack: contextlib.ExitStack
) -> None:
    """They take what becomes free at once, and must not end the attempts of others for it."""
    server = serve({"server": {"handshake_timeout": 30}}, prepare=few_descriptors)
    done = threading.Event()

    def flood(number: int) -> None:
        kept: deque[Raw] = deque()
        while not done.is_set():
            with contextlib.suppress(OSError):
                kept.append(server.connect(source=f"127.0.3.{number}"))
                half_a_request(kept[-1])
            if len(kept) > 60:
                kept.popleft().close()
        for raw in kept:
            raw.close()

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: server.stats()["rejections"]["ip_limit"] > 100, 10, "all is taken")
        count = 0
        for batch in range(4):
            # Each of them takes its time, as over a slow network.
            sources = [f"127.0.1.{10 * batch + number + 1}" for number in range(10)]
            raws = [stack.enter_context(server.connect(source=source)) for source in sources]
            for raw in raws:
                raw.send(upgrade()[:60])
            time.sleep(0.5)
            for raw in raws:
                with contextlib.suppress(OSError):
                    raw.send(upgrade()[60:])
                count += raw.response().status == 101
        assert count == OTHERS
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_attempts_beyond_what_an_address_may_hold_are_told(
    serve: Start, stack: contextlib.ExitStack
) -> None:
    server = serve({"server": {"handshake_timeout": 30}}, prepare=few_descriptors)
    raws = [stack.enter_context(server.connect()) for _ in range(13)]
    for raw in raws:
        half_a_request(raw)
        server.settle()
    response = raws[12].response()
    assert (response.status, response.headers["x-rejection-reason"]) == (429, "ip_limit")
    # As soon as one of them has finished, another one may begin.
    raws[0].send(upgrade()[50:])
    assert raws[0].response().status == 101
    late = stack.enter_context(server.connect())
    half_a_request(late)
    server.settle()
    late.send(upgrade()[50:])
    assert late.response().status == 101


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
def test_health_answers_when_connections_have_all_descriptors(
    serve: Start,
    stack: contextlib.ExitStack,
    tls: dict[str, str],
    context: ssl.SSLContext,
    with_tls: bool,
) -> None:
    settings = {"tls": tls} if with_tls else {}
    server = serve({**settings, "limits": {"per_ip": 1000}}, prepare=few_descriptors)
    opened = []
    refusals = 0
    while refusals < 50:
        raw = stack.enter_context(server.connect(tls=context if with_tls else None))
        raw.send(upgrade())
        response = raw.response()
        if response.status == 101:
            opened.append(raw)
        else:
            assert response.headers["x-rejection-reason"] == "server_limit"
            assert response.headers["retry-after"] == "5"
            refusals += 1
    assert 250 < len(opened) < 300
    for _ in range(20):
        assert get(server.port, "/health", tls=with_tls)[0] == 200
    assert get(server.port, "/ready", tls=with_tls)[0] == 200
    assert server.get("/health")[0] == 200
    # Those who are in are served, and when they leave others get in.
    opened[0].send_frame(TEXT, '{"type": "dance"}')
    while "unknown_type" not in str(opened[0].message()):
        pass
    for raw in opened:
        raw.close()

    def one_more() -> bool:
        with server.connect(tls=context if with_tls else None) as raw:
            raw.send(upgrade())
            return raw.response().status == 101

    wait_until(one_more, 10, "it admits again")
