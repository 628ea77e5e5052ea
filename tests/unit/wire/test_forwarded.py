"""The client's address: whom to believe, in three formats."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.addresses import UNIX_PEER, counted
from tidegate.errors import ConfigError, PeerError
from tidegate.wire.forwarded import (
    MAX_PROXY_HEADER,
    ProxyHeader,
    TrustedProxies,
    forwarded_scheme,
    parse_proxy,
)

TRUSTED = TrustedProxies(["10.0.0.0/8", "fd00::/8", "192.0.2.1"])
PROXY = "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("fd12::1", True),
        ("fe80::1", False),
        ("::ffff:10.0.0.1", True),
        ("::ffff:a00:1", True),
        ("::10.0.0.1", False),
        ("", False),
        (UNIX_PEER, True),
    ],
)
def test_networks(address: str, expected: bool) -> None:
    assert (address in TRUSTED) is expected


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0.0/33", "localhost", "", "10.0.0", "*"])
def test_a_bad_network_is_named(network: str) -> None:
    with pytest.raises(ConfigError, match=repr(network).replace("*", r"\*")):
        TrustedProxies(["10.0.0.0/8", network])


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("unix", "unix"),
    ],
)
def test_counted(address: str, expected: str) -> None:
    assert counted(address) == expected


@pytest.mark.parametrize(
    ("peer", "value", "expected"),
    [
        # Without a proxy that is trusted, nothing is believed.
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("::ffff:203.0.113.9", "198.51.100.1", "203.0.113.9"),
        (PROXY, None, PROXY),
        (PROXY, "", PROXY),
        # The first from the right that is not trusted.
        (PROXY, "198.51.100.1", "198.51.100.1"),
        (PROXY, "1.1.1.1, 2.2.2.2, 198.51.100.1", "198.51.100.1"),
        (PROXY, "1.1.1.1,198.51.100.1 ,10.0.0.2,\t192.0.2.1", "198.51.100.1"),
        (PROXY, "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("fd00::1", "2001:DB8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        # Through a Unix socket, whose peer is a proxy.
        (UNIX_PEER, None, UNIX_PEER),
        (UNIX_PEER, "nonsense", UNIX_PEER),
        (UNIX_PEER, "198.51.100.1", "198.51.100.1"),
        (UNIX_PEER, "1.1.1.1, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        # Through two: the second proxy has no address for the first.
        (UNIX_PEER, "1.1.1.1, 198.51.100.1, unix:", "198.51.100.1"),
        (UNIX_PEER, "unix:", UNIX_PEER),
        ("203.0.113.9", "198.51.100.1, unix:", "203.0.113.9"),
        # With ports.
        (PROXY, "198.51.100.1:4711", "198.51.100.1"),
        (PROXY, "[2001:db8::1]:4711", "2001:db8::1"),
        (PROXY, "[2001:db8::1]", "2001:db8::1"),
        # Nonsense ends the walk at the last proxy that was found.
        (PROXY, "198.51.100.1, unknown", PROXY),
        (PROXY, "198.51.100.1, unknown, 10.0.0.2", "10.0.0.2"),
        (PROXY, "198.51.100.1,", "198.51.100.1"),
        (PROXY, "198.51.100.1, , 10.0.0.2", "198.51.100.1"),
        (PROXY, "198.51.100.256", PROXY),
        (PROXY, "198.51.100.01", PROXY),
        (PROXY, "198.51.100.1:", PROXY),
        (PROXY, "198.51.100.1:123456", PROXY),
        (PROXY, "2001:db8::1]", PROXY),
        (PROXY, "[198.51.100.1", PROXY),
        (PROXY, "fe80::1%eth0", PROXY),
        (PROXY, "\u0661\u0662.0.0.1", PROXY),
        (PROXY, '"198.51.100.1"', PROXY),
        (PROXY, "for=198.51.100.1", PROXY),
        # No more than 32 hops are followed.
        (PROXY, "198.51.100.1" + ",10.0.0.2" * 31, "198.51.100.1"),
        (PROXY, "198.51.100.1" + ",10.0.0.2" * 32, "10.0.0.2"),
    ],
)
def test_x_forwarded_for(peer: str, value: str | None, expected: str) -> None:
    assert TRUSTED.client(peer, value, "x-forwarded-for") == expected


def test_a_peer_on_a_unix_socket_is_a_proxy_although_no_network_is_trusted() -> None:
    nobody = TrustedProxies([])
    assert UNIX_PEER in nobody
    assert nobody.client(UNIX_PEER, "1.1.1.1, 2.2.2.2", "x-forwarded-for") == "2.2.2.2"
    assert nobody.client(UNIX_PEER, "for=2.2.2.2", "forwarded") == "2.2.2.2"
    assert nobody.client("10.0.0.1", "2.2.2.2", "x-forwarded-for") == "10.0.0.1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ("For=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1"),
        ("proto=https; host=a.org ;FOR=198.51.100.1;", "198.51.100.1"),
        ('for="198.51.100.1:4711"', "198.51.100.1"),
        ('for="[2001:DB8::1]:4711"', "2001:db8::1"),
        ('for="[2001:db8::1]:_port"', "2001:db8::1"),
        ('for="198.51.100.\\1"', "198.51.100.1"),
        ('host="a;b=c";for=198.51.100.1', "198.51.100.1"),
        ("for=1.1.1.1, for=198.51.100.1,for=10.0.0.2", "198.51.100.1"),
        ("for=198.51.100.1, for=10.0.0.3;by=10.0.0.2", "198.51.100.1"),
        # What a client left open does not swallow what the proxy wrote.
        ('for="1.1.1.1, for=198.51.100.1', "198.51.100.1"),
        ('host="\\, for=198.51.100.1', "198.51.100.1"),
        # Nonsense ends the walk at the last proxy that was found.
        ("for=198.51.100.1, for=unknown", PROXY),
        ("for=198.51.100.1, for=_hidden, for=10.0.0.2", "10.0.0.2"),
        ("for=198.51.100.1, proto=https", PROXY),
        ("198.51.100.1", PROXY),
        ("for=198.51.100.1;for=198.51.100.2", PROXY),
        ("for=198.51.100.1;proto", PROXY),
        ("for= 198.51.100.1", PROXY),
        ('for="198.51.100.1', PROXY),
        ('for=198.51.100.1;host="a,b"', PROXY),
        ("for=[2001:db8::1]", PROXY),
        ("", PROXY),
    ],
)
def test_forwarded(value: str, expected: str) -> None:
    assert TRUSTED.client(PROXY, value, "forwarded") == expected


def test_nobody_is_trusted_by_default() -> None:
    nobody = TrustedProxies([])
    assert nobody.client(PROXY, "198.51.100.1", "x-forwarded-for") == PROXY
    assert PROXY not in nobody


def test_what_a_client_writes_does_not_change_what_it_is() -> None:
    for forged in ("1.1.1.1", "10.0.0.2", "unknown", '"', 'for="', "", ",,,"):
        value = f"{forged}, 198.51.100.1"
        assert TRUSTED.client(PROXY, value, "x-forwarded-for") == "198.51.100.1"
        value = f"{forged}, for=198.51.100.1"
        assert TRUSTED.client(PROXY, value, "forwarded") == "198.51.100.1"


@pytest.mark.parametrize(
    "part", ["10.0.0.2,", "for=10.0.0.2,", "; ", "a=b;", 'a="', "\\", ";   a=b"]
)
def test_a_long_header_is_walked_at_once(part: str) -> None:
    value = "for=10.0.0.2" + part * (16_000 // len(part)) + "!"
    start = time.process_time()
    TRUSTED.client(PROXY, value, "forwarded")
    TRUSTED.client(PROXY, value, "x-forwarded-for")
    assert time.process_time() - start < 0.25


@settings(max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            [
                "for=",
                "10.0.0.2",
                "198.51.100.1",
                "[::1]",
                ":",
                "1",
                ",",
                ";",
                '"',
                "\\",
                " ",
                "\xe9",
            ]
        ),
        max_size=15,
    ).map("".join),
    st.sampled_from(["x-forwarded-for", "forwarded"]),
)
def test_the_answer_is_always_an_address(value: str, style: str) -> None:
    client = TRUSTED.client(PROXY, value, style)  # type: ignore[arg-type]
    assert str(ipaddress.ip_address(client)) == client


SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
IPV4 = bytes([198, 51, 100, 1, 10, 0, 0, 1]) + b"\x12\x67\x01\xbb"
IPV6 = ipaddress.ip_address("2001:db8::1").packed + bytes(16) + b"\x12\x67\x01\xbb"
MAPPED = ipaddress.ip_address("::ffff:198.51.100.1").packed + bytes(16) + bytes(4)
TLV = b"\x04\x00\x03abc"


def proxy(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE + bytes((command, family)) + len(addresses).to_bytes(2, "big") + addresses


HEADERS = [
    pytest.param(proxy(0x21, 0x11, IPV4), "198.51.100.1", id="TCP over IPv4"),
    pytest.param(proxy(0x21, 0x11, IPV4 + TLV), "198.51.100.1", id="with a TLV"),
    pytest.param(proxy(0x21, 0x21, IPV6), "2001:db8::1", id="TCP over IPv6"),
    pytest.param(proxy(0x21, 0x21, MAPPED), "198.51.100.1", id="IPv4-mapped"),
    pytest.param(proxy(0x21, 0x31, bytes(216)), None, id="Unix"),
    pytest.param(proxy(0x21, 0x00, b""), None, id="UNSPEC"),
    pytest.param(proxy(0x21, 0x00, IPV4), None, id="UNSPEC with addresses"),
    pytest.param(proxy(0x20, 0x00, b""), None, id="LOCAL"),
    pytest.param(proxy(0x20, 0x11, IPV4), None, id="LOCAL with addresses"),
    pytest.param(proxy(0x21, 0x11, IPV4.ljust(MAX_PROXY_HEADER - 16)), "198.51.100.1", id="long"),
    *(
        pytest.param(f"PROXY {text}\r\n".encode(), source, id=f"1: {text}")
        for text, source in (
            ("TCP4 198.51.100.1 10.0.0.1 56324 443", "198.51.100.1"),
            ("TCP6 2001:DB8:0::1 ::1 65535 0", "2001:db8::1"),
            ("TCP6 ::ffff:198.51.100.1 ::1 1 2", "198.51.100.1"),
            ("UNKNOWN", None),
            ("UNKNOWN ffff::1 ffff::2 65535 65535 and more", None),
        )
    ),
]


@pytest.mark.parametrize(("data", "source"), HEADERS)
def test_proxy_headers(data: bytes, source: str | None) -> None:
    expected = ProxyHeader(source, len(data))
    assert parse_proxy(data) == expected
    assert parse_proxy(data + b"GET / HTTP/1.1\r\n") == expected


@pytest.mark.parametrize(("data", "source"), HEADERS[:5])
def test_a_proxy_header_in_pieces_waits_for_its_end(data: bytes, source: str | None) -> None:
    assert all(parse_proxy(data[:size]) is None for size in range(len(data)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n", id="no header"),
        pytest.param(b"G", id="no header, first byte"),
        pytest.param(SIGNATURE[:5] + b"X", id="signature broken off"),
        *(
            pytest.param(f"PROXY {text}\r\n".encode(), id=f"1: {text}"[:30])
            for text in (
                "",
                "TCP4",
                "tcp4 198.51.100.1 10.0.0.1 1 2",
                "UDP4 198.51.100.1 10.0.0.1 1 2",
                "TCP4 198.51.100.1 10.0.0.1 1",
                "TCP4 198.51.100.1 10.0.0.1 1 65536",
                "TCP4 198.51.100.1 10.0.0.1 1 -2",
                "TCP4  198.51.100.1 10.0.0.1 1 2",
                "TCP4 2001:db8::1 ::1 1 2",
                "TCP6 198.51.100.1 10.0.0.1 1 2",
                "TCP6 fe80::1%\x1b[31m ::1 1 2",
                "TCP4 198.51.100.256 10.0.0.1 1 2",
                "UNKNOWN" + " " * 100,
            )
        ),
        pytest.param(b"PROXY" + b" " * 200, id="1: no end"),
        pytest.param(proxy(0x11, 0x11, IPV4), id="another version"),
        pytest.param(proxy(0x22, 0x11, IPV4), id="unknown command"),
        pytest.param(proxy(0x21, 0x12, IPV4), id="UDP"),
        pytest.param(proxy(0x21, 0x41, IPV4), id="unknown family"),
        pytest.param(proxy(0x21, 0x11, IPV4[:-1]), id="IPv4 too short"),
        pytest.param(proxy(0x21, 0x21, IPV4), id="IPv6 too short"),
        pytest.param(proxy(0x21, 0x11, bytes(MAX_PROXY_HEADER - 15))[:16], id="too long"),
    ],
)
def test_what_is_no_proxy_header(data: bytes) -> None:
    with pytest.raises(PeerError):
        parse_proxy(data)


@settings(max_examples=150)
@given(
    st.binary(max_size=60),
    st.sampled_from([b"", SIGNATURE, SIGNATURE + b"\x21\x11\x00", b"PROXY TCP4 "]),
)
def test_any_bytes_are_a_proxy_header_or_not(data: bytes, start: bytes) -> None:
    try:
        header = parse_proxy(start + data)
    except PeerError:
        return
    assert header is None or 15 <= header.length <= len(start + data)


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        ("for=192.0.2.1;proto=https", "https"),
        ('proto="HTTPS";by=_a', "https"),
        ("proto=https, for=192.0.2.1;proto=http", "http"),
        ("proto=https, for=192.0.2.1", ""),
        ("proto=http;proto=https", ""),
        ("proto=https;", "https"),
        ("proto", ""),
        ("", ""),
    ],
)
def test_scheme_is_that_of_the_last_proxy(value: str, scheme: str) -> None:
    assert forwarded_scheme(value) == scheme
