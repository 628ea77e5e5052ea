"""URLs, tokens, codecs and messages of a client."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

from tidegate.client import Client, Connected, Publication, Settings
from tidegate.client.codec import CODECS
from tidegate.client.messages import read
from tidegate.client.tokens import Tokens, is_offerable
from tidegate.client.url import checked, with_route


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("ws://a/ws", "ws://a/ws"),
        ("http://a:1/ws?x=1", "ws://a:1/ws?x=1"),
        ("https://[::1]:1/", "wss://[::1]:1/"),
    ],
)
def test_url_gets_a_websocket_scheme(url: str, found: str) -> None:
    assert checked(url, None) == found


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "url: as in wss://"),
        ("ftp://a", "url: as in wss://"),
        ("ws:///ws", "url: as in wss://"),
        ("ws://a:99999", "url: Port out of range"),
        ("ws://ann:secret@a", "url: no user and password"),
        ("ws://a/#b", "url: without a fragment"),
    ],
)
def test_url_that_leads_nowhere_is_refused(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        Client(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"codec": "xml"}, "codec: msgpack or json, not 'xml'"),
        ({"queue_policy": "drop"}, "queue_policy: refuse or drop_oldest, not 'drop'"),
        ({"connect_timeout": 0}, "connect_timeout: more than 0, not 0"),
        ({"room_buffer": 0}, "room_buffer: more than 0, not 0"),
        ({"ssl": ssl.create_default_context()}, "ssl: a TLS context needs a wss:// URL"),
    ],
)
def test_wrong_arguments_are_named(more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Client("ws://a", **more)


@pytest.mark.parametrize(
    ("url", "route", "found"),
    [
        ("ws://a/ws", None, "ws://a/ws"),
        ("ws://a/ws", "n1", "ws://a/ws?route=n1"),
        ("ws://a/ws?x=&route=old", "n 2&", "ws://a/ws?x=&route=n+2%26"),
    ],
)
def test_route_is_a_query_parameter(url: str, route: str | None, found: str) -> None:
    assert with_route(url, route) == found


def test_tokens_are_asked_for_once_and_kept() -> None:
    left = iter(["t1", "t2", None, 7])

    async def run() -> None:
        tokens = Tokens(lambda: next(left))  # type: ignore[arg-type,return-value]  # it lies
        assert [await tokens.get(), await tokens.get()] == ["t1", "t1"]
        tokens.renew()
        assert [tokens.renewed, await tokens.get()] == [True, "t2"]
        assert await tokens.ask() is None
        assert await tokens.get() == "t2"
        with pytest.raises(TypeError, match="token: a text or None, not int"):
            await tokens.ask()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("token", "offerable"),
    [("eyJ.a-b_c", True), ("", False), ("a b", False), ("a,b", False), ("ä", False)],
)
def test_tokens_that_cannot_be_a_subprotocol_are_known(token: str, offerable: bool) -> None:
    assert is_offerable(token) is offerable


def test_message_in_the_other_format_is_refused() -> None:
    message = {"type": "ping", "data": [1, None, "a"]}
    for name, other in (("json", "msgpack"), ("msgpack", "json")):
        codec, wrong = CODECS[name], CODECS[other]  # type: ignore[index]  # names of codecs
        assert codec.decode(codec.encode(message)) == message
        with pytest.raises(ValueError, match="mixed up"):
            wrong.decode(codec.encode(message))


def test_message_with_wrong_fields_is_read_without_them() -> None:
    message = {
        "type": "connected",
        "connectionId": 7,
        "userId": "ann",
        "settings": {"pingInterval": "often", "broadcast": False},
        "rooms": 7,
        "shoes": 2,
    }
    assert read(Connected, message) == Connected(user_id="ann", settings=Settings(broadcast=False))


def test_publication_is_read_with_python_names() -> None:
    message = {"room": "r", "data": {"a": 1}, "from": "bob", "connectionId": "c1", "offset": 3}
    publication = read(Publication, message)
    assert (publication.sender, publication.connection_id) == ("bob", "c1")
    assert publication.data == {"a": 1}
