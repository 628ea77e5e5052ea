"""What goes over a backplane, counted: the same for every kind of it."""

from __future__ import annotations

from collections import Counter

__all__ = ["Traffic"]


class Traffic:
    """Counts of one node, from its start on."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "errors",
        "published",
        "received",
        "reconnects",
    )

    def __init__(self) -> None:
        self.published = 0
        """Messages that this node has sent to all."""
        self.received = 0
        """Messages that came from all nodes, this one included."""
        self.bytes_sent = 0
        self.bytes_received = 0
        """Of messages alone."""
        self.reconnects = 0
        """Connections that were made again."""
        self.errors: Counter[str] = Counter(down=0, lost=0, refused=0)
        """Commands that could not be sent, were not answered before the connection ended, or were
        refused by the server."""
