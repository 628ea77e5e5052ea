"""What is written down of a run: a row each second, and how long each client was away."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Record", "Second"]


@dataclass(slots=True)
class Second:
    """What happened in one second, in clients; and how it was at its end."""

    attempted: int = 0
    admitted: int = 0
    refused: int = 0
    unanswered: int = 0
    """Attempts that nobody answered in time, or at all."""
    lost: int = 0
    connected: int = 0
    waiting: int = 0
    """In waiting rooms."""
    up: int = 0
    """Nodes that accept."""


@dataclass(slots=True)
class Record:
    """Everything that is known after a run.

    `weight` is how many clients each object stood for; `back` is in seconds, one for each object
    that lost its connection and got one again. `cpu`, `connections` and `status` have a row a
    second, with a value for each node.
    """

    weight: int
    seconds: list[Second] = field(default_factory=list)
    cpu: list[list[float]] = field(default_factory=list)
    connections: list[list[int]] = field(default_factory=list)
    status: list[list[int]] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[float, int, str]] = field(default_factory=list)
    """When a node died of its load, which, and why."""
    events: list[tuple[float, str]] = field(default_factory=list)
    """What happened, for people."""
    missing: int = 0
    """Clients that wanted a connection at the end, and had none."""
    gone: int = 0
    """Clients that were told not to come back."""
    most_connections: int = 0
    """On one node, at any moment."""
