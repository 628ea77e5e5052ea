"""All that Valkey or Redis does for a node, over one pair of connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.backplane.nodes import times_of
from tidegate.backplane.redis.beats import living_nodes
from tidegate.backplane.redis.broker import RedisBroker
from tidegate.backplane.redis.links import links_of
from tidegate.backplane.redis.nodes import RedisNodes
from tidegate.backplane.redis.orders import RedisOrders
from tidegate.backplane.redis.presence import RedisPresence
from tidegate.backplane.redis.revocations import RedisRevocations
from tidegate.backplane.redis.sessions import RedisSessions

if TYPE_CHECKING:
    from tidegate.core.messaging.rules import Rules
    from tidegate.core.settings import Settings

__all__ = ["RedisBackplane"]


class RedisBackplane:
    """The parts; what starts the broker starts them all.

    Args:
        url: of the server, valid by the settings.
        settings: the prefix of all names, how long an answer may take, and when a node is gone.
        rules: which rooms keep a history.
        node: the name of this node: no other one has it.

    Raises:
        ConfigError: redis-py is missing.
    """

    def __init__(self, url: str, settings: Settings, rules: Rules, node: str) -> None:
        links = links_of(url, settings.backplane, node)
        times = times_of(settings.fleet.ttl)
        self.links = links
        self.presence = RedisPresence(links, rules, living_nodes(links, times))
        self.broker = RedisBroker(links, rules, self.presence)
        self.orders = RedisOrders(links)
        self.traffic = links.traffic
        self.nodes = RedisNodes(links, times)
        self.revocations = RedisRevocations(links)
        self.sessions = RedisSessions(links)

    @property
    def up(self) -> bool:
        """Whether it can be reached, and this node hears the others."""
        return self.links.up

    @property
    def subscriptions(self) -> int:
        """How many rooms this node hears."""
        return self.broker.subscriptions
