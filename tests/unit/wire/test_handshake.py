"""The opening handshake: what is taken, what is refused and how, whatever the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.codes import REASONS, Refusal
from tidegate.wire.handshake import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    HandshakeError,
    Request,
    Upgrade,
    check_upgrade,
    head_end,
    http_response,
    is_upgrade,
    parse_request,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, section 1.3
FIELDS = {
    "Host": "example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def status_of(error: HandshakeError) -> int:
    reason = REASONS[error.reason]
    assert isinstance(reason, Refusal)
    return reason.status


def head(line: str = "GET /ws HTTP/1.1", /, *more: str, **replaced: str | None) -> bytes:
    """Return a request head: the usual fields, some replaced or left out, and more lines."""
    fields = FIELDS | {name.replace("_", "-"): value for name, value in replaced.items()}
    lines = [line, *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return "\r\n".join((*lines, *more, "", "")).encode("latin-1")


def parsed(data: bytes) -> Request:
    request = parse_request(data)
    assert request is not None
    return request


def refusal(data: bytes) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        check_upgrade(parsed(data))
    return caught.value


def test_parses_a_request() -> None:
    request = parsed(head("GET /ws/%C3%A9?room=1&x HTTP/1.1", "X-One:  a b \t", "x-ONE: c"))
    assert request == Request(
        method="GET",
        path="/ws/%C3%A9",
        query="room=1&x",
        headers={name.lower(): value for name, value in FIELDS.items()} | {"x-one": "a b, c"},
        rest=b"",
    )


@pytest.mark.parametrize("minor", range(10))
def test_every_minor_version_of_http_1_is_understood(minor: int) -> None:
    request = parsed(head(f"GET /health?x HTTP/1.{minor}") + b"rest")
    assert (request.path, request.query, request.minor) == ("/health", "x", minor)
    assert (request.headers["host"], request.rest) == ("example.com", b"rest")


def test_http_1_0_needs_no_host_and_opens_no_websocket() -> None:
    assert parsed(b"GET /health HTTP/1.0\r\n\r\n").headers == {"host": ""}
    refused = refusal(head("GET /ws HTTP/1.0"))
    assert (refused.reason, refused.headers[0]) == ("upgrade_required", ("Upgrade", "websocket"))
    assert "HTTP/1.1" in refused.message
    check_upgrade(parsed(head("GET /ws HTTP/1.2")))


def test_keeps_what_follows_the_head() -> None:
    frames = b"\x81\x85\x00\x00\x00\x00hello\r\n\r\n"
    assert parsed(head() + frames).rest == frames
    assert parsed(head(Upgrade=None) + b"GET / ").rest == b"GET / "


@pytest.mark.parametrize(
    ("line", "path", "query", "host"),
    [
        ("GET / HTTP/1.1", "/", "", "example.com"),
        ("GET /? HTTP/1.1", "/", "", "example.com"),
        ("GET /a?b?c HTTP/1.1", "/a", "b?c", "example.com"),
        ("GET //other.org/a HTTP/1.1", "//other.org/a", "", "example.com"),
        ("GET http://other.org:81/a?b=1 HTTP/1.1", "/a", "b=1", "other.org:81"),
        ("GET WS://other.org HTTP/1.1", "/", "", "other.org"),
        ("GET https://other.org?b HTTP/1.1", "/", "b", "other.org"),
        ("GET http://[::1]:8000/ HTTP/1.1", "/", "", "[::1]:8000"),
        ("OPTIONS * HTTP/1.1", "*", "", "example.com"),
    ],
)
def test_targets(line: str, path: str, query: str, host: str) -> None:
    request = parsed(head(line))
    assert (request.path, request.query, request.headers["host"]) == (path, query, host)


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_before_the_request_are_skipped(before: bytes) -> None:
    assert parsed(before + head() + b"rest") == parsed(head() + b"rest")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00", 400, "bad_request", id="TLS hello"),
        pytest.param(b"\x00", 400, "bad_request", id="NUL first"),
        pytest.param(head("get /ws HTTP/1.1"), 400, "bad_request", id="lower-case method"),
        pytest.param(head("FOO /ws HTTP/1.1"), 400, "bad_request", id="unknown method"),
        pytest.param(b"\r\n" * 3 + head(), 400, "bad_request", id="only empty lines"),
        pytest.param(head("GET ws HTTP/1.1"), 400, "bad_request", id="relative target"),
        pytest.param(head("GET HTTP/1.1"), 400, "bad_request", id="no target"),
        pytest.param(head("GET * HTTP/1.1"), 400, "bad_request", id="asterisk"),
        pytest.param(head("OPTIONS *x HTTP/1.1"), 400, "bad_request", id="asterisk and more"),
        pytest.param(head("CONNECT a:80 HTTP/1.1"), 400, "bad_request", id="authority"),
        pytest.param(head("GET /a#b HTTP/1.1"), 400, "bad_request", id="fragment"),
        pytest.param(head("GET ftp://a/b HTTP/1.1"), 400, "bad_request", id="other scheme"),
        pytest.param(head("GET http://u@a/b HTTP/1.1"), 400, "bad_request", id="userinfo"),
        pytest.param(head("GET http:///b HTTP/1.1"), 400, "bad_request", id="no authority"),
        pytest.param(head("GET /\xe9 HTTP/1.1"), 400, "bad_request", id="non-ASCII target"),
        pytest.param(head("GET /\x00 HTTP/1.1"), 400, "bad_request", id="NUL in target"),
        pytest.param(head("GET /ws HTTP/1.10"), 400, "bad_request", id="HTTP/1.10"),
        pytest.param(head("GET /ws HTTP/01.1"), 400, "bad_request", id="HTTP/01.1"),
        pytest.param(head("GET /ws HTTP/1.1 "), 400, "bad_request", id="a space behind"),
        pytest.param(head("GET /ws http/1.1"), 400, "bad_request", id="lower-case version"),
        pytest.param(head("GET /ws HTTP/3.0"), 505, "http_version", id="HTTP/3.0"),
        pytest.param(head("GET /ws HTTP/2.0"), 505, "http_version", id="HTTP/2.0"),
        pytest.param(b"GET /ws\r\n\r\n", 400, "bad_request", id="HTTP/0.9"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version", id="h2 preface"),
        pytest.param(head("GET /ws RTSP/1.1"), 400, "bad_request", id="another protocol"),
        pytest.param(head().replace(b"\r\n", b"\n") + b"\r\n\r\n", 400, "bad_request", id="LF"),
        pytest.param(head("GET / HTTP/1.1", "A: 1\nB: 2"), 400, "bad_request", id="one LF"),
        pytest.param(head("GET / HTTP/1.1", "A: 1\rB: 2"), 400, "bad_request", id="one CR"),
        pytest.param(head("GET / HTTP/1.1", "A: 1\r\n 2"), 400, "bad_request", id="folded"),
        pytest.param(head("GET / HTTP/1.1", "A : 1"), 400, "bad_request", id="space in name"),
        pytest.param(head("GET / HTTP/1.1", ": 1"), 400, "bad_request", id="no name"),
        pytest.param(head("GET / HTTP/1.1", "A"), 400, "bad_request", id="no colon"),
        pytest.param(head("GET / HTTP/1.1", "A: \x00"), 400, "bad_request", id="NUL in value"),
        pytest.param(head("GET / HTTP/1.1", "A: \x7f"), 400, "bad_request", id="DEL in value"),
        pytest.param(head(Host=None), 400, "bad_request", id="no Host"),
        pytest.param(head(Host=""), 400, "bad_request", id="empty Host"),
        pytest.param(head(Host="a b"), 400, "bad_request", id="bad Host"),
        pytest.param(head(Host="a\xe9"), 400, "bad_request", id="non-ASCII Host"),
        pytest.param(head(Host="u@a"), 400, "bad_request", id="userinfo in Host"),
        pytest.param(head(Content_Length="5"), 400, "bad_request", id="body"),
        pytest.param(head(Content_Length="x"), 400, "bad_request", id="bad length"),
        pytest.param(head(Content_Length="9" * 30), 400, "bad_request", id="huge length"),
        pytest.param(head(Transfer_Encoding="chunked"), 400, "bad_request", id="chunked"),
        pytest.param(head(Transfer_Encoding=""), 400, "bad_request", id="empty encoding"),
    ],
)
def test_requests_that_do_not_parse(data: bytes, status: int, code: str) -> None:
    error = refusal(data)
    assert (status_of(error), error.reason) == (status, code)


@pytest.mark.parametrize("name", ["Host", "HOST", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])
@pytest.mark.parametrize("again", ["", "another"])
def test_a_single_field_may_not_come_twice(name: str, again: str) -> None:
    error = refusal(head("GET / HTTP/1.1", f"{name}: {again}"))
    assert (status_of(error), error.message) == (400, f"the header field {name.lower()} came twice")


@pytest.mark.parametrize("name", ["Origin", "Authorization", "Content-Length"])
def test_an_optional_single_field_may_not_come_twice(name: str) -> None:
    assert parsed(head("GET / HTTP/1.1", f"{name}: 0"))
    assert status_of(refusal(head("GET / HTTP/1.1", f"{name}: 0", f"{name}: 0"))) == 400


def test_fields_that_come_twice_are_joined_and_cookies_by_a_semicolon() -> None:
    request = parsed(head("GET / HTTP/1.1", "A: 1", "Cookie: x=1", "A: 2", "Cookie: y=2"))
    assert (request.headers["a"], request.headers["cookie"]) == ("1, 2", "x=1; y=2")


def test_an_empty_body_is_no_body() -> None:
    assert check_upgrade(parsed(head(Content_Length="0"))).key == KEY


def test_the_head_may_be_so_long_and_no_longer() -> None:
    padding = MAX_HEAD_BYTES - len(head("GET / HTTP/1.1", "A: "))
    longest = head("GET / HTTP/1.1", "A: " + "x" * padding)
    assert len(longest) == MAX_HEAD_BYTES
    assert len(parsed(longest + b"rest").headers["a"]) == padding
    error = refusal(head("GET / HTTP/1.1", "A: " + "x" * (padding + 1)))
    assert (status_of(error), error.reason) == (431, "headers_too_large")


def test_a_head_without_an_end_is_refused_at_the_limit() -> None:
    endless = b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD_BYTES
    assert parse_request(endless[: MAX_HEAD_BYTES - 1]) is None
    assert status_of(refusal(endless[:MAX_HEAD_BYTES])) == 431


def test_there_may_be_so_many_fields_and_no_more() -> None:
    room = MAX_HEADERS - len(FIELDS)
    assert parsed(head("GET / HTTP/1.1", *["A: 1"] * room)).headers["a"].count("1") == room
    error = refusal(head("GET / HTTP/1.1", *["A: 1"] * (room + 1)))
    assert (status_of(error), error.reason) == (431, "headers_too_large")


@pytest.mark.parametrize(
    ("replaced", "status", "code", "header"),
    [
        ({"Upgrade": None}, 426, "upgrade_required", ("Upgrade", "websocket")),
        ({"Upgrade": "h2c"}, 426, "upgrade_required", ("Upgrade", "websocket")),
        ({"Upgrade": "websockets"}, 426, "upgrade_required", ("Upgrade", "websocket")),
        ({"Connection": None}, 426, "upgrade_required", ("Upgrade", "websocket")),
        ({"Connection": "keep-alive"}, 426, "upgrade_required", ("Upgrade", "websocket")),
        ({"Connection": "Upgraded"}, 426, "upgrade_required", ("Upgrade", "websocket")),
        ({"Sec_WebSocket_Version": None}, 426, "upgrade_required", ("Sec-WebSocket-Version", "13")),
        ({"Sec_WebSocket_Version": "8"}, 426, "upgrade_required", ("Sec-WebSocket-Version", "13")),
        ({"Sec_WebSocket_Version": "013"}, 426, "upgrade_required", ("Upgrade", "websocket")),
        ({"Sec_WebSocket_Version": "8, 13"}, 426, "upgrade_required", ("Upgrade", "websocket")),
        ({"Sec_WebSocket_Key": None}, 400, "bad_request", None),
        ({"Sec_WebSocket_Key": ""}, 400, "bad_request", None),
        ({"Sec_WebSocket_Key": KEY[:-4]}, 400, "bad_request", None),
        ({"Sec_WebSocket_Key": KEY + "AAAA"}, 400, "bad_request", None),
        ({"Sec_WebSocket_Key": KEY.replace("d", "-")}, 400, "bad_request", None),
        ({"Sec_WebSocket_Key": KEY[:-1]}, 400, "bad_request", None),
        ({"Sec_WebSocket_Key": KEY[:-3] + "R=="}, 400, "bad_request", None),
        ({"Sec_WebSocket_Protocol": ""}, 400, "bad_request", None),
        ({"Sec_WebSocket_Protocol": " , ,"}, 400, "bad_request", None),
        ({"Sec_WebSocket_Protocol": "a b"}, 400, "bad_request", None),
        ({"Sec_WebSocket_Protocol": "a;q=1"}, 400, "bad_request", None),
        ({"Sec_WebSocket_Protocol": "a, \xe9"}, 400, "bad_request", None),
        ({"Sec_WebSocket_Protocol": "a, b, a"}, 400, "bad_request", None),
    ],
)
def test_requests_that_are_no_handshake(
    replaced: dict[str, str | None], status: int, code: str, header: tuple[str, str] | None
) -> None:
    error = refusal(head(**replaced))
    assert (status_of(error), error.reason) == (status, code)
    assert header in error.headers if header else error.headers == ()


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "DELETE"])
def test_only_get_opens(method: str) -> None:
    error = refusal(head(f"{method} /ws HTTP/1.1"))
    assert (status_of(error), error.reason) == (405, "method_not_allowed")
    assert error.headers == (("Allow", "GET"),)


@pytest.mark.parametrize(
    "replaced",
    [
        {"Connection": "upgrade"},
        {"Connection": "UPGRADE"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "Upgrade,keep-alive"},
        {"Connection": ",\t, close ,\tuPgRaDe\t,"},
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Host": "[::1]:8000"},
        {"X_Other": "caf\xe9"},
    ],
)
def test_handshakes_in_other_words(replaced: dict[str, str | None]) -> None:
    assert check_upgrade(parsed(head(**replaced))) == Upgrade(KEY, (), "", None)


def test_tokens_may_be_spread_over_fields() -> None:
    request = parsed(
        head(
            "GET / HTTP/1.1",
            "Connection: upgrade",
            "Sec-WebSocket-Protocol: a, b",
            "Sec-WebSocket-Protocol: ,c ,",
            "Sec-WebSocket-Extensions: x; y",
            "Sec-WebSocket-Extensions: z",
            "Origin: https://example.com",
            Connection="keep-alive",
        )
    )
    assert check_upgrade(request) == Upgrade(KEY, ("a", "b", "c"), "x; y, z", "https://example.com")


@pytest.mark.parametrize(
    ("upgrade", "expected"),
    [(None, False), ("", False), ("h2c", False), ("WebSocket", True), ("h2c,websocket", True)],
)
def test_is_upgrade(upgrade: str | None, expected: bool) -> None:
    assert is_upgrade(parsed(head(Upgrade=upgrade))) is expected


@pytest.mark.parametrize(
    "data",
    [
        head("GET /EVIL#\xe9 HTTP/1.1"),
        head("EVIL / HTTP/1.1"),
        head("GET / EVIL/1.1"),
        head("GET / HTTP/1.1", "EVIL\xe9: 1"),
        head("GET / HTTP/1.1", "Host: EVIL"),
        *(head(**{name.replace("-", "_"): "EVIL \xe9"}) for name in FIELDS),
        head(Sec_WebSocket_Protocol="EVIL \xe9"),
        head(Content_Length="EVIL"),
    ],
)
def test_nothing_of_the_peer_is_in_an_answer(data: bytes) -> None:
    error = refusal(data)
    answer = http_response(status_of(error), error.message.encode("ascii"), error.headers)
    assert b"EVIL" not in answer
    assert answer.isascii()


REQUESTS = [
    head(),
    b"\r\n" + head("GET http://a.org/ws HTTP/1.1", "A: 1", "A: 2"),
    head(Upgrade=None),
]


@pytest.mark.parametrize("data", REQUESTS)
def test_a_head_in_pieces_waits_for_its_end(data: bytes) -> None:
    start = 0
    for size in range(len(data)):
        assert parse_request(data[:size]) is None
        assert head_end(bytearray(data[:size]), start) == -1
        start = max(0, size - 3)
    assert head_end(data, start) == len(data)


@settings(max_examples=200)
@given(
    st.sampled_from(REQUESTS),
    st.integers(0, 400),
    st.integers(0, 3),
    st.one_of(st.binary(max_size=4), st.sampled_from([b"\r\n", b"\r\n\r\n", b" ", b":", b"\0"])),
)
def test_a_spoilt_request_is_parsed_or_refused(data: bytes, at: int, cut: int, put: bytes) -> None:
    spoilt = data[:at] + put + data[at + cut :]
    try:
        request = parse_request(spoilt)
        if request is not None:
            check_upgrade(request)
    except HandshakeError as refused:
        status = status_of(refused)
    else:
        return
    assert status in (400, 405, 426, 431, 505)


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from([b"", b"GET ", b"GET / HTTP/1.1\r\n"]))
def test_any_bytes_are_parsed_or_refused(data: bytes, start: bytes) -> None:
    try:
        parse_request(start + data + b"\r\n\r\n")
    except HandshakeError as refused:
        status = status_of(refused)
    else:
        return
    assert status in (400, 431, 505)
