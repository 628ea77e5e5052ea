"""The limits that hold over all nodes of a fleet, and when a node of it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tidegate.core.settings.fields import Section, setting

__all__ = ["FleetSettings"]


@dataclass(frozen=True, slots=True)
class FleetSettings(Section):
    """What holds over all nodes that share a backplane; without `backplane.url` it is unused."""

    section: ClassVar[str] = "fleet"
    limits: bool = setting(
        True,
        "Whether limits.per_ip, limits.per_user and the limits of tiers hold over all nodes, where "
        "the backplane is Valkey or Redis; when off, on each node by itself.",
    )
    rooms: bool = setting(
        True,
        "Whether limits.per_room and the limits of rooms' rules hold over all nodes, too: each "
        "join is counted there then. When off, on each node by itself.",
    )
    connections: int | None = setting(
        None,
        "Connections on all nodes together; no limit when left out.",
        low=0,
        high=100_000_000,
        live=True,
    )
    ttl: float = setting(
        10.0,
        "Time after which a node is gone that is not heard of any more: its capacity is free, its "
        "users leave their rooms, and no other node waits for it.",
        unit="s",
        low=1,
        high=300,
    )
    when_down: str = setting(
        "local",
        "What becomes of attempts while the backplane cannot be reached: this node's own limits "
        "decide, or they are refused.",
        choices=("local", "refuse"),
        live=True,
    )
    when_lost: str = setting(
        "keep",
        "What becomes of connections when the backplane was not reached for fleet.ttl, and other "
        "nodes may have given their capacity away: they stay, or are closed and come back.",
        choices=("keep", "close"),
        live=True,
    )

    def _check(self) -> None:
        if self.connections is not None and not self.limits:
            raise self.error("connections", "needs fleet.limits = true")
