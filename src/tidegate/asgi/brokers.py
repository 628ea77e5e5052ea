"""What carries the messages of a hub to other processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.backplane.kafka.broker import KafkaBroker
from tidegate.backplane.nats.broker import NatsBroker
from tidegate.backplane.nats.bus import Bus
from tidegate.backplane.nats.servers import Servers
from tidegate.backplane.redis.broker import RedisBroker
from tidegate.backplane.redis.links import links_of
from tidegate.core.messaging.rules import Rules

if TYPE_CHECKING:
    from tidegate.backplane.base import Broker
    from tidegate.core.settings import Settings

__all__ = ["broker_of"]


def broker_of(settings: Settings, name: str) -> Broker | None:
    """Return the broker of the settings; None where a process is alone.

    Rooms of an application keep no history.

    Args:
        settings: the settings.
        name: of this process; no other one has it.
    """
    url, timeout = settings.backplane.url, settings.backplane.timeout
    if url is None:
        return None
    if url.startswith(("nats:", "tls:")):
        bus = Bus(Servers(url, timeout, name), settings.backplane, name)
        return NatsBroker(bus, Rules(), settings.backplane.replicas)
    if url.startswith("kafka"):
        return KafkaBroker(url, settings.backplane, Rules(), name)
    return RedisBroker(links_of(url, settings.backplane, name), Rules())
