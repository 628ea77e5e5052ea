from __future__ import annotations

import pytest

from tidegate.addresses import counted, is_loopback


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
