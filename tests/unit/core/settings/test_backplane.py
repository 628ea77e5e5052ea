"""Which URLs a backplane may have, and what is said of others."""

from __future__ import annotations

import pytest

from tidegate.core.settings import BackplaneSettings
from tidegate.errors import ConfigError


@pytest.mark.parametrize(
    "url",
    [
        "nats://host",
        "nats://host:4222",
        "nats://ann:secret@one:4222,two,[::1]:4223",
        "nats://token@host",
        "tls://host?ca=/etc/ca.pem&cert=/a&key=/b",
        "nats://host?creds=/etc/user.creds",
        "nats://host?nkey=/etc/seed",
    ],
)
def test_url_of_nats_is_taken(url: str) -> None:
    assert BackplaneSettings(url=url).url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nats://", "must have a host"),
        ("nats://ann:secret@", "must have a host"),
        ("nats://one,,two", "must have a host"),
        ("nats://host:port", "must be a URL"),
        ("nats://host:99999", "must be a URL"),
        ("nats://host/3", "there are no databases"),
        ("nats://host?password=secret", "no other parameters than creds, nkey, ca, cert, key"),
        ("nats://host?creds", "must be a URL"),
        ("nats://host?creds=/a&nkey=/b", "creds or nkey, not both"),
        ("tls://host?key=/b", "must have cert where it has key"),
        ("amqp://secret@host", "must be a URL"),
    ],
)
def test_url_that_is_none_is_named_without_its_secrets(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as failed:
        BackplaneSettings(url=url)
    assert "backplane.url" in str(failed.value)
    assert "secret" not in str(failed.value)
