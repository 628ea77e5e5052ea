"""One object for several clients: the settings and costs of a gate that counts in such objects.

Where a simulation has more clients than it may have objects, an object stands for `weight` clients
that act alike, and everything that is counted in clients is divided by the weight: limits, the
pace, the waiting room, what opens the breaker, the kernel's queue. What one of them costs is
multiplied. So the policies see the same load in larger units, and decide by their own code.
"""

from __future__ import annotations

from dataclasses import replace

from tidegate.core.settings import Settings

__all__ = ["scaled"]

_SLOWEST = 0.1


def scaled(settings: Settings, weight: int) -> Settings:
    """The settings of a gate whose connections stand for so many each."""
    if weight == 1:
        return settings

    def count(value: int) -> int:
        return max(1, round(value / weight)) if value else 0

    def maybe(value: int | None) -> int | None:
        return None if value is None else count(value)

    limits, pacing, breaker = settings.limits, settings.pacing, settings.breaker
    return replace(
        settings,
        limits=replace(
            limits,
            connections=limits.connections // weight,
            per_ip=count(limits.per_ip),
            per_user=count(limits.per_user),
        ),
        fleet=replace(settings.fleet, connections=maybe(settings.fleet.connections)),
        tiers={
            name: replace(tier, per_user=maybe(tier.per_user), connections=maybe(tier.connections))
            for name, tier in settings.tiers.items()
        },
        pacing=replace(
            pacing,
            rate=max(_SLOWEST, pacing.rate / weight),
            burst=count(pacing.burst),
        ),
        waiting_room=replace(settings.waiting_room, size=count(settings.waiting_room.size)),
        breaker=replace(
            breaker, rejections=count(breaker.rejections), probes=count(breaker.probes)
        ),
        server=replace(settings.server, backlog=count(settings.server.backlog)),
    )
