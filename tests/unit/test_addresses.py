from __future__ import annotations

import pytest

from tidegate.addresses import (
    authority,
    counted,
    is_local,
    is_loopback,
    matcher,
    network,
    range_of,
    unix_path,
)


@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("not an address", "not an address"),
        ("", ""),
    ],
)
def test_an_address_is_counted_in_one_form(address: str, form: str) -> None:
    assert counted(address) == form


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
)
def test_loopback_is_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.example", "", "127.1"])
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "[::1]", "unix:/run/t.sock"])
def test_a_listener_that_only_this_machine_reaches_is_local(host: str) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "unix.example", "gate.example"])
def test_a_listener_that_others_reach_is_not_local(host: str) -> None:
    assert not is_local(host)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:80"),
        ("gate.example", "gate.example:80"),
        ("::1", "[::1]:80"),
        ("[::1]", "[::1]:80"),
        ("unix:/run/t.sock", "unix:/run/t.sock"),
    ],
)
def test_authority_is_as_in_urls(host: str, expected: str) -> None:
    assert authority(host, 80) == expected


def test_unix_path_of_an_address() -> None:
    assert unix_path("unix:/run/t.sock") == "/run/t.sock"
    assert unix_path("/run/t.sock") is None
    assert unix_path("::1") is None


@pytest.mark.parametrize(
    ("address", "prefix", "under"),
    [
        ("192.0.2.1", 64, "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2ff::1", 56, "2001:db8:1:200::/56"),
        ("2001:db8:1:2ff::1", 57, "2001:db8:1:280::/57"),
        ("2001:db8::1", 128, "2001:db8::1"),
        ("2001:db8::1", 127, "2001:db8::/127"),
        ("::1", 64, "::/64"),
        ("fe80::1%eth0", 64, "fe80::/64"),
        # Clients of IPv4 behind a translator are not one client.
        ("64:ff9b::c000:201", 64, "64:ff9b::c000:201"),
        ("64:ff9b:1::c000:201", 64, "64:ff9b:1::/64"),
        ("no:address", 64, "no:address"),
        ("", 64, ""),
    ],
)
def test_network_of_an_ipv6_address_is_what_one_client_has(
    address: str, prefix: int, under: str
) -> None:
    assert network(address, prefix) == under


def test_network_of_an_ipv4_mapped_address_is_the_ipv4_address() -> None:
    assert network(counted("::ffff:192.0.2.1"), 64) == "192.0.2.1"


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
        ("::ffff:192.0.2.0/120", "192.0.2.255", "192.0.3.0"),
        ("2001:DB8::1", "2001:db8::1", "2001:db8::2"),
        ("2001:db8::1/64", "2001:db8::ffff", "2001:db8:0:1::"),
        ("2001:db8::/128", "2001:db8::", "2001:db8::1"),
        ("::/0", "2001:db8::1", "192.0.2.1"),
        ("0.0.0.0/0", "192.0.2.1", "not an address"),
    ],
)
def test_matcher_of_an_address_or_a_network_knows_its_addresses(
    text: str, inside: str, outside: str
) -> None:
    found = range_of(text)
    assert found is not None
    matches = matcher(found)
    assert matches(inside)
    assert not matches(outside)


@pytest.mark.parametrize("text", ["", "alice", "192.0.2.1:80", "192.0.2.0/33", "/64", "1/2/3"])
def test_range_of_what_is_neither_address_nor_network_is_none(text: str) -> None:
    assert range_of(text) is None
