"""Which URLs a backplane may have, and what is said of others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidegate.core.settings import BackplaneSettings, Settings
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
        "kafka://one:9092,two,[::1]:9093",
        "kafka+tls://ann:secret@host?sasl=SCRAM-SHA-512&ca=/etc/ca.pem",
    ],
)
def test_url_of_nats_or_kafka_is_taken(url: str) -> None:
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
        ("kafka://secret@host", "must have user:password"),
        ("kafka://host/topic", "there are no databases"),
        ("amqp://secret@host", "must be a URL"),
    ],
)
def test_url_that_is_none_is_named_without_its_secrets(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as failed:
        BackplaneSettings(url=url)
    assert "backplane.url" in str(failed.value)
    assert "secret" not in str(failed.value)


def test_kafka_and_what_it_cannot_do_is_an_error_that_says_what_can() -> None:
    kafka = {"url": "kafka://host"}
    with pytest.raises(ConfigError, match=r"backplane\.prefix.*must be without :"):
        BackplaneSettings(url=kafka["url"], prefix="a:b")
    with pytest.raises(ConfigError, match=r"rooms\.rules\.history_size.*Valkey, Redis and NATS"):
        Settings.from_mapping({"backplane": kafka, "rooms": {"rules": [{"history_size": 1}]}})
    with pytest.raises(ConfigError, match=r"rooms\.rules\.presence.*Valkey, Redis and NATS"):
        Settings.from_mapping({"backplane": kafka, "rooms": {"rules": [{"presence": "members"}]}})
    settings = Settings.from_mapping({"backplane": kafka, "rooms": {"rules": [{"pattern": "a"}]}})
    kept = settings.rooms.rules[0].__class__(pattern="a", history_size=5)
    with pytest.raises(ConfigError, match="history_size"):
        replace(settings, rooms=replace(settings.rooms, rules=(kept,)))
