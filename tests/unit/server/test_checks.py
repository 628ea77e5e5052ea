from __future__ import annotations

from typing import Any

import pytest

from tidegate.core.settings import Settings
from tidegate.server.checks import warnings

SECRET = "0123456789abcdef0123456789abcdef"


def warned(descriptors: int | None = None, **sections: Any) -> list[str]:
    return list(warnings(Settings.from_mapping(sections), descriptors))


def test_the_defaults_are_fine() -> None:
    assert warned() == []
    assert warned(20_000) == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LocalHost"),
        *("unix:/run/t.sock", ["127.0.0.1", "unix:/run/t.sock"]),
    ],
)
def test_anonymous_clients_of_this_machine_are_fine(host: str | list[str]) -> None:
    assert warned(server={"host": host}) == []


def test_anonymous_clients_on_one_public_address_of_several_are_warned_of() -> None:
    (said,) = warned(server={"host": ["127.0.0.1", "::"]})
    assert 'server.host is "::"' in said


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "::", "192.0.2.1", "192.168.0.1", "gate.example"),
        *("localhost.example", "127.0.0.1.example"),
    ],
)
def test_anonymous_clients_on_a_public_address_are_warned_of(host: str) -> None:
    (said,) = warned(server={"host": host})
    assert f'server.host is "{host}"' in said
    assert "auth.anonymous" in said
    assert warned(server={"host": host}, auth={"anonymous": False, "secret": SECRET}) == []


@pytest.mark.parametrize(
    ("anonymous", "may"),
    [
        ({}, "connect from anywhere, join every room and write to every room, because"),
        ({"direct": True}, "join every room, write to every room and write to every user, because"),
        (
            {"join": ["lobby", "news.*"], "publish": []},
            'connect from anywhere and join ["lobby", "news.*"], because',
        ),
        ({"join": [], "publish": []}, "anonymous clients may connect from anywhere, because"),
    ],
)
def test_what_anonymous_clients_may_do_is_said(anonymous: dict[str, object], may: str) -> None:
    (said,) = warned(server={"host": "0.0.0.0"}, anonymous=anonymous)
    assert may in said
    for name in ("anonymous.join", "anonymous.publish", "anonymous.direct"):
        assert name in said


def test_anonymous_clients_behind_a_proxy_on_this_machine_are_warned_of() -> None:
    (said,) = warned(proxies={"trusted": ["127.0.0.1"]})
    assert "because proxies are trusted and auth.anonymous is true" in said


@pytest.mark.parametrize(
    ("connections", "descriptors", "fits"),
    [(1000, 1251, 999), (10_000, 1024, 800), (1000, 20, 0), (1000, 1252, None)],
)
def test_fewer_descriptors_than_connections_are_warned_of(
    connections: int, descriptors: int, fits: int | None
) -> None:
    said = warned(descriptors, limits={"connections": connections})
    if fits is None:
        assert said == []
    else:
        assert len(said) == 1
        assert (
            f"limit of {descriptors} is too low for limits.connections = {connections}" in said[0]
        )
        assert f"about {fits} connections will fit" in said[0]
