"""How many attempts may hold a descriptor before they are admitted or gone.

An attempt costs its client nothing, so what all of them hold is bounded, and what one address holds
of it: TLS handshakes, PROXY headers, requests that are not whole, decisions that are pending, and
refusals that the client has not read to their end.

When an address has its part, its next attempt is refused. When all is taken, so is the next of an
address that has one already; for any other, an attempt makes room: the one that has waited longest
of those whose address has several, else the one that has waited longest of all. Proxies that are
trusted are not counted, because their clients are; those are known when the request is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidegate.addresses import network

if TYPE_CHECKING:
    from tidegate.core.settings import LimitsSettings

__all__ = ["Unfinished"]

_PART: Final = 3
_LEAST_OF_ONE: Final = 4


class Unfinished:
    """Counts the unfinished attempts of each address, and knows the bounds.

    One address may have as many as it may have connections (`limits.per_ip`), but no more than a
    third of all, and four at least.
    """

    __slots__ = ("_counts", "_prefix", "most", "of_one")

    most: int
    """The most of all addresses together."""
    of_one: int
    """The most of one address."""

    def __init__(self, most: int, limits: LimitsSettings) -> None:
        self._prefix = limits.ipv6_prefix
        # By address, and IPv6 by network.
        self._counts: dict[str, int] = {}
        self.share(most, limits)

    def share(self, most: int, limits: LimitsSettings) -> None:
        """Take over another bound. Attempts that are there stay."""
        self.most = most
        self.apply(limits)

    def apply(self, limits: LimitsSettings) -> None:
        """Take over other limits. Attempts that are there stay."""
        part = self.most // _PART
        if not limits.is_dry("per_ip"):
            part = min(part, limits.per_ip)
        self.of_one = max(_LEAST_OF_ONE, part)

    def enter(self, address: str | None, *, full: bool = False) -> str | None:
        """Count an attempt; None when its address has as many as it may have. HOT.

        Args:
            address: None when it is known to be a proxy's.
            full: whether all is taken, so that another one would have to make room.

        Returns:
            What `leave` has to be given when the attempt has finished.
        """
        if address is None:
            return ""
        key = network(address, self._prefix)
        count = self._counts.get(key, 0)
        if count >= (1 if full else self.of_one):
            return None
        self._counts[key] = count + 1
        return key

    def several(self, key: str) -> bool:
        """Whether an address has more than one."""
        return self._counts.get(key, 0) > 1

    def leave(self, key: str) -> None:
        """An attempt has finished. HOT."""
        if key:
            left = self._counts[key] - 1
            if left:
                self._counts[key] = left
            else:
                del self._counts[key]

    def __len__(self) -> int:
        """How many are counted."""
        return sum(self._counts.values())
