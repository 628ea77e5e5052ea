"""What a node tells the others of itself, a little more often than it would be believed to be gone.

Nothing here depends on the clocks of nodes: ages are measured by the one server that keeps records.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from msgspec import Struct

__all__ = ["NodeRecord", "NodeTimes", "Seen", "times_of"]

_BEAT_SECONDS: Final = 2.0
_BEATS: Final = 3
_LISTED_SECONDS: Final = 60.0


class NodeTimes(NamedTuple):
    """The times by which nodes know which of them live, in seconds."""

    beat: float
    """How often a node says that it lives, and how it is."""
    gone: float
    """A node that was silent for so long is gone: `fleet.ttl`."""
    forgotten: float
    """A node that was silent for so long is not listed any more."""


def times_of(ttl: float) -> NodeTimes:
    """Return the times of a fleet, by its `fleet.ttl` in seconds.

    At least three beats are missing of a node that is gone, and it is listed for another minute.
    """
    return NodeTimes(min(_BEAT_SECONDS, ttl / _BEATS), ttl, ttl + _LISTED_SECONDS)


class NodeRecord(Struct, frozen=True):
    """A node, in its own words. Fields that come new have defaults: all versions read it."""

    id: str
    """The name of the node: no other one has it."""
    host: str
    pid: int
    version: str
    worker: int | None = None
    """Its number among the workers of its supervisor; None without one."""
    addresses: tuple[str, ...] = ()
    """Host and port of every listener for clients."""
    uptime: float = 0.0
    """Seconds since its start."""
    ready: bool = False
    """Whether it should get new connections."""
    reason: str = ""
    """Why it should not."""
    draining: bool = False
    zone: str = "normal"
    pressure: float = 0.0
    """0 to 1."""
    connections: int = 0
    capacity: int = 0
    """How many connections there can be."""
    route: str = ""
    """Its `server.route`; empty for none."""
    rate: float = 0.0
    """Connections that were accepted a second, between the last two beats."""


class Seen(NamedTuple):
    """A record, and how long ago it was written, in seconds."""

    record: NodeRecord
    age: float
