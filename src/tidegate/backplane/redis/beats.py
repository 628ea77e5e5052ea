"""How nodes say that they live, over Valkey or Redis: on a channel that all of them hear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.backplane.living import LivingNodes

if TYPE_CHECKING:
    from tidegate.backplane.nodes import NodeTimes
    from tidegate.backplane.redis.links import Links

__all__ = ["living_nodes"]


def living_nodes(links: Links, times: NodeTimes) -> LivingNodes:
    """Return what knows which nodes live.

    Args:
        links: the connections to the server.
        times: how often nodes say that they live, and how long they may be silent.
    """
    channel, own = links.name("beat"), links.node.encode()

    def say() -> None:
        links.publish(channel, own, lambda _: None)

    def beat(data: bytes) -> None:
        if data != own:
            living.heard(data.decode())

    living = LivingNodes(links.node, times, lambda: links.up, say)
    links.hear(channel, beat)
    links.watch(heard=living.begin, stopped=living.stop)
    return living
