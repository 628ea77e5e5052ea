"""The client's address behind proxies: believed from trusted ones only."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.support.certificates import client_context, make_certificate
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.raw import TEXT, Raw, frame, upgrade

LIMIT = 5
PROXY = "127.0.0.1"
pytestmark = pytest.mark.usefixtures("many_addresses")
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def attempts(server: Process, headers: list[tuple[str, str]], source: str | None = None) -> int:
    """How many get in when one attempt is made with each header."""
    with contextlib.ExitStack() as stack:
        answers = []
        for header in headers:
            raw = stack.enter_context(server.connect(source=source))
            answers.append(raw.ask(headers=[header]))
        refused = [answer for answer in answers if answer.status != 101]
        assert {answer.headers["x-rejection-reason"] for answer in refused} <= {"ip_limit"}
        return len(answers) - len(refused)


def rotating(form: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", form.format(f"203.0.113.{n}")) for n in range(20)]


def test_rotating_headers_of_an_untrusted_peer_do_not_help(serve: Start) -> None:
    server = serve({"limits": {"per_ip": LIMIT}})
    assert attempts(server, rotating("{}")) == LIMIT
    server.wait_open(0)
    # Nor do they when there are trusted proxies, but it is none of them.
    server = serve(
        {"limits": {"per_ip": LIMIT}, "proxies": {"trusted": ["127.0.0.9", "10.0.0.0/8"]}}
    )
    assert attempts(server, rotating("{}")) == LIMIT
    server.wait_open(0)
    assert attempts(server, rotating("{}, 10.1.2.3")) == LIMIT


@pytest.fixture(scope="module")
def behind_server(shared_serve: Start) -> Process:
    return shared_serve(
        {
            "limits": {"per_ip": LIMIT},
            "proxies": {"trusted": [PROXY, "10.0.0.0/8"]},
        }
    )


@pytest.fixture
def behind(behind_server: Process) -> Process:
    behind_server.wait_open(0)
    return behind_server


def test_the_client_of_a_trusted_proxy_is_counted(behind: Process) -> None:
    assert attempts(behind, rotating("{}")) == 20
    behind.wait_open(0)
    # What the client itself wrote stands to the left of what the proxy saw.
    assert attempts(behind, rotating("{}, 198.51.100.7")) == LIMIT
    behind.wait_open(0)
    # Trusted proxies behind one another are walked through.
    assert attempts(behind, rotating("{}, 198.51.100.7, 10.1.2.3, 10.9.9.9")) == LIMIT
    behind.wait_open(0)
    assert attempts(behind, rotating("{}, 10.1.2.3")) == 20


def test_the_address_that_operators_see(behind: Process) -> None:
    cases = {
        "198.51.100.7": "198.51.100.7",
        "1.1.1.1, 198.51.100.7": "198.51.100.7",
        "2001:DB8:0::7": "2001:db8::7",
        "::ffff:198.51.100.7": "198.51.100.7",
        "198.51.100.7, not an address": PROXY,
        "198.51.100.7,": "198.51.100.7",
        ", 198.51.100.7 , ,,": "198.51.100.7",
        "": PROXY,
    }
    for header, address in cases.items():
        with behind.connect() as raw:
            raw.open(headers=[("X-Forwarded-For", header)])
            (row,) = behind.connections()
            assert row["address"] == address, header
            assert len(behind.connections(f"ip={address}")) == 1
        behind.wait_open(0)


def test_several_headers_are_one_list(behind: Process) -> None:
    with behind.connect() as raw:
        raw.open(headers=[("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "198.51.100.7")])
        assert [row["address"] for row in behind.connections()] == ["198.51.100.7"]


def test_forwarded(serve: Start) -> None:
    server = serve(
        {
            "limits": {"per_ip": LIMIT},
            "proxies": {"trusted": [PROXY], "header": "forwarded"},
        }
    )
    headers = [("Forwarded", f'for="[2001:db8:0:{n:x}::1]:4711";proto=wss') for n in range(20)]
    assert attempts(server, headers) == 20
    server.wait_open(0)
    headers = [("Forwarded", f"for=203.0.113.{n}, for=198.51.100.7") for n in range(20)]
    assert attempts(server, headers) == LIMIT
    server.wait_open(0)
    assert attempts(server, rotating("{}")) == LIMIT, "the other header says nothing here"


def proxied_v1(source: str | None) -> bytes:
    """A PROXY protocol header of version 1."""
    if source is None:
        return b"PROXY UNKNOWN\r\n"
    family = f"TCP{ip_address(source).version}"
    return f"PROXY {family} {source} {source} 4711 8000\r\n".encode()


def proxied(source: str | None, extra: bytes = b"") -> bytes:
    """A PROXY protocol header of version 2."""
    if source is None:
        return SIGNATURE + struct.pack("!BBH", 0x20, 0, len(extra)) + extra
    packed = ip_address(source).packed
    family = 0x11 if len(packed) == 4 else 0x21
    addresses = packed + packed + struct.pack("!HH", 4711, 8000) + extra
    return SIGNATURE + struct.pack("!BBH", 0x21, family, len(addresses)) + addresses


@pytest.fixture(scope="module")
def proxies_server(shared_serve: Start) -> Process:
    return shared_serve(
        {
            "limits": {"per_ip": LIMIT},
            "proxies": {"trusted": [PROXY], "protocol": True},
            "server": {"handshake_timeout": 1},
        },
    )


@pytest.fixture
def proxies(proxies_server: Process) -> Process:
    proxies_server.wait_open(0)
    return proxies_server


def addresses(server: Process) -> list[str]:
    return [row["address"] for row in server.connections()]


@pytest.mark.parametrize("extra", [b"", b"\x04\x00\x03abc", None], ids=["", "tlv", "v1"])
@pytest.mark.parametrize(
    ("source", "address"),
    [("198.51.100.7", "198.51.100.7"), ("2001:db8::7", "2001:db8::7"), (None, PROXY)],
)
def test_proxy_protocol(
    proxies: Process, source: str | None, address: str, extra: bytes | None
) -> None:
    header = proxied_v1(source) if extra is None else proxied(source, extra)
    data = header + upgrade() + frame(TEXT, b'{"type": "join"')
    with proxies.connect() as raw:
        raw.send(data)
        assert raw.response().status == 101
        raw.message()
        assert b"invalid_json" in str(raw.message()).encode()
        assert addresses(proxies) == [address]
    with proxies.connect() as raw:
        for byte in header + upgrade():
            raw.send(bytes([byte]))
        assert raw.response().status == 101


def test_proxy_protocol_counts_the_client(proxies: Process) -> None:
    with contextlib.ExitStack() as stack:
        statuses = []
        for _ in range(LIMIT + 2):
            raw = stack.enter_context(proxies.connect())
            raw.send(proxied("198.51.100.7") + upgrade())
            statuses.append(raw.response().status)
        assert statuses == [101] * LIMIT + [429] * 2
        raw = stack.enter_context(proxies.connect())
        raw.send(proxied("198.51.100.8") + upgrade())
        assert raw.response().status == 101


def test_proxy_protocol_from_an_untrusted_peer_names_nobody(proxies: Process) -> None:
    with proxies.connect(source="127.0.0.9") as raw:
        raw.send(proxied("198.51.100.7") + upgrade())
        with contextlib.suppress(EOFError, OSError):
            assert raw.response().status == 101
        assert "198.51.100.7" not in addresses(proxies)


@pytest.mark.parametrize(
    "data",
    [
        upgrade(),
        b"PROXY TCP5 198.51.100.7 127.0.0.1 4711 8000\r\n" + upgrade(),
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12) + upgrade(),
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4) + upgrade(),
        SIGNATURE + b"\x21\x11\xff\xff" + bytes(70_000),
        proxied("198.51.100.7")[:20],
        b"",
    ],
    ids=["none", "bad version 1", "long version 1", "version 3", "short", "huge", "cut", "nothing"],
)
def test_what_is_no_proxy_header_gets_nothing(proxies: Process, data: bytes) -> None:
    with proxies.connect(timeout=20) as raw:
        with contextlib.suppress(ConnectionError, socket.timeout):
            raw.send(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = raw.end()
        assert not answer.startswith(b"HTTP/1.1 101")
    assert proxies.open() == 0
    with proxies.connect() as raw:
        raw.send(proxied("198.51.100.7") + upgrade())
        assert raw.response().status == 101


def test_health_is_served_behind_the_proxy_header(proxies: Process) -> None:
    with proxies.connect() as raw:
        raw.send(proxied(None) + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.response().status == 200


def test_tls_behind_the_proxy_header(serve: Start, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    server = serve(
        {
            "proxies": {"trusted": [PROXY], "protocol": True},
            "tls": {"certificate": str(certificate), "key": str(key)},
        },
    )
    with server.connect() as raw:
        # The first bytes of TLS come in the same segment.
        hello, context = ssl.MemoryBIO(), client_context(certificate)
        answer = ssl.MemoryBIO()
        tls = context.wrap_bio(answer, hello, server_hostname="localhost")
        data = proxied("198.51.100.7")
        for _ in range(10):
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                raw.send(data + hello.read())
                data = b""
                answer.write(raw.sock.recv(65536))
        tls.write(upgrade())
        raw.send(hello.read())
        wait_until(lambda: addresses(server) == ["198.51.100.7"])


def test_a_raw_client_cannot_come_from_two_addresses() -> None:
    """The helper binds what it is told, or these tests would prove nothing."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Raw(listener.getsockname()[1], source="127.0.0.9"),
    ):
        peer, address = listener.accept()
        peer.close()
    assert address[0] == "127.0.0.9"
