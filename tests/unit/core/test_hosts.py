from __future__ import annotations

import pytest

from tidegate.core.hosts import Hosts, is_this_machine


@pytest.mark.parametrize(
    ("names", "host", "allowed"),
    [
        (["chat.example"], "chat.example", True),
        (["chat.example"], "chat.example:8000", True),
        (["chat.example"], "CHAT.example:443", True),
        (["Chat.Example"], "chat.example", True),
        (["chat.example"], "evil.example", False),
        (["chat.example"], "chat.example.evil.example", False),
        (["chat.example"], "a.chat.example", False),
        (["*.chat.example"], "a.chat.example:1", True),
        (["*.chat.example"], "chat.example", False),
        (["bücher.example"], "xn--bcher-kva.example", True),
        (["192.0.2.1"], "192.0.2.1:8000", True),
        (["192.0.2.1"], "192.0.2.2:8000", False),
        (["2001:db8::1"], "[2001:DB8:0::1]:8000", True),
        (["[2001:db8::1]"], "[2001:db8::1]", True),
        (["chat.example"], "", False),
        (["chat.example"], "chat.example/x", False),
        (["chat.example"], "x@chat.example", False),
        (["chat.example"], "*", False),
        (["*"], "anything", True),
        ([], "chat.example", False),
    ],
)
def test_hosts_allows_the_names_that_are_listed(names: list[str], host: str, allowed: bool) -> None:
    assert Hosts(names).allows(host) is allowed


@pytest.mark.parametrize("name", ["chat.example:8000", "a b", "chat.*", "", "[::g]"])
def test_hosts_of_what_is_no_host_raises(name: str) -> None:
    with pytest.raises(ValueError, match=r"\bits?\b|brackets"):
        Hosts([name])


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST:8000", True),
        ("app.localhost:8000", True),
        ("localhost.", True),
        ("127.0.0.1:8000", True),
        ("127.9.9.9", True),
        ("[::1]:8000", True),
        ("[::1]", True),
        ("evil.example:8000", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("notlocalhost", False),
        ("192.0.2.1", False),
        ("[2001:db8::1]", False),
        ("", False),
    ],
)
def test_is_this_machine_tells_names_that_only_it_can_have(host: str, ours: bool) -> None:
    assert is_this_machine(host) is ours
