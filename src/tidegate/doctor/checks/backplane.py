"""What stands between the nodes of a fleet (`backplane.url`)."""

from __future__ import annotations

import re
from typing import Final

from tidegate.doctor.facts import Facts
from tidegate.doctor.findings import Check, Finding, Load, Severity
from tidegate.text import size

__all__ = ["CHECKS"]

_OLDEST: Final = (6, 2)
_SLOW: Final = 0.05  # seconds
_FULL: Final = 0.9


def backplane_reach(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The server of `backplane.url` cannot be reached or used from here.

    A node does not start without it.
    """
    seen = facts.backplane
    if seen is None:
        return None
    if seen.error:
        return Finding(
            Severity.ERROR,
            f"The backplane {seen.url} cannot be used: {seen.error}",
            "A node does not start without it; one that runs refuses messages to rooms.",
        )
    if seen.role and seen.role != "master":
        return Finding(
            Severity.ERROR,
            f"The backplane {seen.url} is a replica",
            "It takes no writes, so nothing can be published.",
            instead="backplane.url = redis+sentinel://... finds the primary",
        )
    return None


def backplane_version(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The server is too old: its scripts need Redis 6.2, or any Valkey."""
    seen = facts.backplane
    if seen is None or seen.server != "redis":
        return None
    found = re.match(r"(\d+)\.(\d+)", seen.version)
    if found is None or (int(found[1]), int(found[2])) >= _OLDEST:
        return None
    return Finding(
        Severity.ERROR,
        f"The backplane is Redis {seen.version}, which is too old",
        "Scripts of Tidegate use commands that came with Redis 6.2.",
    )


def backplane_eviction(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The server forgets keys when its memory is full.

    Then histories, counts and presence would be wrong without a sign. With `noeviction` it refuses
    to take more, and clients are told.
    """
    seen = facts.backplane
    if seen is None or not seen.policy or seen.policy == "noeviction":
        return None
    return Finding(
        Severity.WARNING,
        f"The backplane forgets keys when its memory is full (maxmemory-policy {seen.policy})",
        "Histories and counts would be wrong then, without a sign.",
        "redis-cli CONFIG SET maxmemory-policy noeviction",
        "echo 'maxmemory-policy noeviction' >> redis.conf",
    )


def backplane_memory(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """More than 90 % of the memory that the server may have is used, or it has no bound."""
    seen = facts.backplane
    if seen is None or seen.error or seen.server == "kafka":
        return None
    if seen.memory is None:
        return Finding(
            Severity.NOTE,
            "The memory of the backplane has no bound (maxmemory)",
            "Histories of many rooms may take all that the machine has.",
            "redis-cli CONFIG SET maxmemory 1gb",
        )
    if seen.memory_used < _FULL * seen.memory:
        return None
    return Finding(
        Severity.ERROR,
        f"The backplane is full: {size(seen.memory_used)} of {size(seen.memory)}",
        "It refuses messages to rooms with a history, and records of clients and nodes.",
        instead="lower history_size and history_ttl of rooms.rules",
    )


def backplane_persistence(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The server keeps nothing over a restart, and has no replica.

    Histories and sessions are gone after a restart then, and clients are told. That may be what
    you want.
    """
    seen = facts.backplane
    if seen is None or seen.error or seen.appends or seen.saves is not False or seen.replicas:
        return None
    return Finding(
        Severity.NOTE,
        "The backplane keeps nothing over a restart, and has no replica",
        "Histories and sessions are gone then. Clients are told: recovered is false.",
        "redis-cli CONFIG SET appendonly yes",
    )


def backplane_latency(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The server is far away: every message of a room goes there and back."""
    seen = facts.backplane
    if seen is None or seen.round_trip is None or seen.round_trip < _SLOW:
        return None
    return Finding(
        Severity.WARNING,
        f"The backplane takes {seen.round_trip * 1000:.0f} ms to answer a ping",
        "Every message of a room, and with fleet limits every attempt, waits for it.",
    )


CHECKS: Final[tuple[Check, ...]] = (
    *(backplane_reach, backplane_version, backplane_eviction),
    *(backplane_memory, backplane_persistence, backplane_latency),
)
