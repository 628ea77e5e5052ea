"""Which pages may connect: origins, and names that point to this machine (DNS rebinding)."""

from __future__ import annotations

import pytest

from tidegate.core.settings import Settings
from tidegate.gate.pages import Pages

LOCAL = ["127.0.0.1", "::1", "unix:/run/t.sock"]
ANY = ["127.0.0.1", "0.0.0.0"]
HERE, AWAY = "127.0.0.1", "192.0.2.7"
EVIL = "evil.example:8000"


def pages(**server: object) -> Pages:
    return Pages(Settings.from_mapping({"server": server}).server)


@pytest.mark.parametrize(
    ("listens", "server", "host", "address", "allowed"),
    [
        # A name of an attacker's that points to 127.0.0.1: the origin is the same, the page is not.
        (LOCAL, {}, EVIL, HERE, False),
        (LOCAL, {}, EVIL, "::1", False),
        (LOCAL, {}, "localhost:8000", HERE, True),
        (LOCAL, {}, "127.0.0.1:8000", HERE, True),
        (LOCAL, {}, "[::1]:8000", "::1", True),
        # A trusted proxy told the client's address, or it came by the socket: no page can do that.
        (LOCAL, {}, "chat.example", AWAY, True),
        (LOCAL, {}, "chat.example", "unix", True),
        # A proxy that is not trusted looks like a page, so the name is to be listed.
        (LOCAL, {"hosts": ["chat.example"]}, "chat.example", HERE, True),
        (LOCAL, {"hosts": ["chat.example"]}, EVIL, HERE, False),
        (LOCAL, {"hosts": ["chat.example"]}, "localhost:8000", HERE, False),
        (LOCAL, {"hosts": ["*"]}, EVIL, HERE, True),
        # Elsewhere any name may be the server's, unless they are listed.
        (ANY, {}, EVIL, AWAY, True),
        (ANY, {"hosts": ["chat.example"]}, EVIL, AWAY, False),
        (ANY, {"hosts": ["chat.example", "192.0.2.9"]}, "192.0.2.9:8000", AWAY, True),
    ],
)
def test_pages_of_the_same_origin_need_a_name_of_this_server(
    listens: list[str], server: dict[str, object], host: str, address: str, allowed: bool
) -> None:
    found = pages(host=listens, **server)
    assert found.allow(f"http://{host}", host, address, secure=False) is allowed
    assert not found.allow("http://other.example", host, address, secure=False)


def test_pages_that_are_listed_may_ask_for_any_host() -> None:
    found = pages(host=LOCAL, origins=["https://app.example"])
    assert found.allow("https://app.example", EVIL, HERE, secure=False)
    assert not found.allow(f"http://{EVIL}", EVIL, HERE, secure=False)


@pytest.mark.parametrize(
    ("server", "origin", "host", "problem"),
    [
        ({}, "http://localhost", "localhost", None),
        ({"origins": ["http://a.example"]}, "http://b.example", "b.example", "server.origins"),
        ({}, "http://b.example", "localhost", "not of the Host"),
        ({}, "http://b.example", "b.example", "no name of this machine"),
        ({"hosts": ["a.example"]}, "http://b.example", "b.example", "server.hosts"),
    ],
)
def test_problem_says_which_setting_it_is(
    server: dict[str, object], origin: str, host: str, problem: str | None
) -> None:
    found = pages(**server).problem(origin, host, HERE, secure=False)
    assert (found is None) if problem is None else (found is not None and problem in found)
