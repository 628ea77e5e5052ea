"""What a handler sees of a request."""

from __future__ import annotations

import pytest

from tidegate.library.request import Request, parse_cookies


def request(query: str = "", *, query_token: bool = False, **headers: str) -> Request:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("GET", "/ws", query, fields, "10.0.0.1", query_token=query_token)


def test_headers_are_found_in_any_case() -> None:
    headers = request(x_api_key="secret").headers
    assert headers["X-Api-Key"] == headers["x-api-key"] == headers.get("X-API-KEY") == "secret"
    assert "X-API-Key" in headers
    assert "X-Other" not in headers
    assert dict(headers) == {"x-api-key": "secret"}
    with pytest.raises(KeyError):
        headers["Other"]


def test_query_params_are_decoded_and_have_every_value() -> None:
    params = request("room=a%20b&tag=x&tag=y&empty=&plus=a+b").query_params
    assert params["room"] == "a b"
    assert params["tag"] == "y"
    assert params.getlist("tag") == ["x", "y"]
    assert params["empty"] == ""
    assert params["plus"] == "a b"
    assert params.getlist("none") == []
    assert params.get("none") is None
    assert list(params) == ["room", "tag", "empty", "plus"]
    assert len(params) == 4


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1; b=2;c=3", {"a": "1", "b": "2", "c": "3"}),
        ("a=first; a=second", {"a": "first"}),
        ("session=abc.def==", {"session": "abc.def=="}),
        ('a="quoted"', {"a": "quoted"}),
        ('a="x\\073y \\"z\\""', {"a": 'x;y "z"'}),
        ('a="', {"a": '"'}),
        ("noise; =nameless; a=", {"a": ""}),
        (" a = 1 ;", {"a": "1"}),
    ],
)
def test_cookies_are_read_as_browsers_send_them(header: str, cookies: dict[str, str]) -> None:
    assert parse_cookies(header) == cookies


def test_cookies_of_a_request_are_those_of_its_header() -> None:
    assert request(cookie="a=1; b=2").cookies == {"a": "1", "b": "2"}
    assert request().cookies == {}


def test_token_is_found_where_clients_put_it() -> None:
    assert request(authorization="Bearer abc").token == "abc"
    offered = request(sec_websocket_protocol="chat, tidegate.token.abc")
    assert offered.subprotocols == ("chat", "tidegate.token.abc")
    assert offered.token == "abc"
    assert request("token=abc", query_token=True).token == "abc"
    assert request("token=abc").token is None
    assert request().token is None


def test_repr_shows_no_secret() -> None:
    shown = request("token=secret", cookie="session=secret", authorization="Bearer secret")
    assert "secret" not in f"{shown!r} {shown.headers!r} {shown.query_params!r}"
