"""Where the slots of a Redis Cluster are.

    redis+cluster://[user:password@]host:port,host:port     rediss+cluster:// with TLS

The hosts are some of the cluster's; one that answers is enough. A connection is to the primary of a
slot, and looks for it each time that it connects, so it follows a failover. Names with the same
part in braces are in the same slot (Redis Cluster specification, "Hash tags").
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import shuffle
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from tidegate.errors import BackplaneError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

__all__ = ["Cluster", "is_cluster", "shard_of"]

_PORT: Final = 6379
_SLOTS: Final = 16384

Address = tuple[str, int]


def is_cluster(url: str) -> bool:
    """Whether a URL is that of a cluster."""
    return urlsplit(url).scheme.endswith("+cluster")


class Cluster:
    """A cluster, as its primaries say.

    Args:
        url: valid by `backplane_url_problem`.
        options: of each connection, as redis-py knows them.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        if credentials:
            options |= {"username": unquote(user) or None, "password": unquote(password)}
        self._options = options
        self._timeout: float = options["socket_connect_timeout"]
        self._make = _connection_class(tls=parts.scheme.startswith(("rediss", "valkeys")))
        self._seeds = [_address(host) for host in hosts.split(",")]
        self._primaries: list[Address] = []
        self._ranges: list[tuple[int, int, Address]] = []
        self._moved: Callable[[], None] = lambda: None

    def watch(self, moved: Callable[[], None]) -> None:
        """Be told when slots have moved from one shard to another: not by a failover, by people."""
        self._moved = moved

    def connect_to(self, slot: int) -> Callable[[], AbstractConnection]:
        """Return what makes connections to the primary of a slot."""
        return lambda: self._make(lambda: self._primary(slot), **self._options)

    def slot(self, name: bytes | str) -> int:
        """Return the slot of a key or a channel."""
        from redis.crc import key_slot

        return key_slot(name.encode() if isinstance(name, str) else name)

    @property
    def shards(self) -> list[list[tuple[int, int]]]:
        """The ranges of slots that are together on one primary, in their order."""
        found: dict[Address, list[tuple[int, int]]] = {}
        for first, last, primary in self._ranges:
            found.setdefault(primary, []).append((first, last))
        return list(found.values())

    async def read(self) -> None:
        """Ask where the slots are.

        Raises:
            BackplaneError: nobody can be asked, or not all slots are served.
        """
        problem: Exception | None = None
        addresses = list(dict.fromkeys((*self._primaries, *self._seeds)))
        shuffle(addresses)  # one that does not answer is not the first each time
        for address in addresses:
            try:
                ranges = await self._asked(address)
            except Exception as error:
                problem = error
                continue
            if sum(last - first + 1 for first, last, _ in ranges) != _SLOTS:
                problem = BackplaneError("not all slots of the cluster are served")
                continue
            before, self._ranges = self.shards, ranges
            self._primaries = list(dict.fromkeys(primary for _, _, primary in ranges))
            if before and before != self.shards:
                self._moved()
            return
        assert problem is not None, "there is a host at least"
        raise problem

    async def _asked(self, address: Address) -> list[tuple[int, int, Address]]:
        async def there() -> Address:
            return address

        connection: Any = self._make(there, **self._options)
        try:
            async with asyncio.timeout(self._timeout / 2):
                await connection.connect()
                await connection.send_command("CLUSTER", "SLOTS")
                slots = await connection.read_response(disable_decoding=True)
        finally:
            await connection.disconnect(nowait=True)
        found = [
            (first, last, (primary[0].decode() if primary[0] else address[0], primary[1]))
            for first, last, primary, *_ in slots
        ]
        return sorted(found)

    async def _primary(self, slot: int) -> Address:
        await self.read()
        for first, last, primary in self._ranges:
            if first <= slot <= last:
                return primary
        raise BackplaneError("not all slots of the cluster are served")


def shard_of(shards: Sequence[Sequence[tuple[int, int]]], slot: int) -> int:
    """Return the number of the shard that has a slot."""
    for number, ranges in enumerate(shards):
        if any(first <= slot <= last for first, last in ranges):
            return number
    raise BackplaneError("not all slots of the cluster are served")


def _address(host: str) -> Address:
    parts = urlsplit(f"//{host}")
    return parts.hostname or "", parts.port or _PORT


def _connection_class(*, tls: bool) -> Callable[..., AbstractConnection]:
    """Return a class of connections that look for their host when they connect."""
    from redis.asyncio.connection import Connection, SSLConnection

    base: Any = SSLConnection if tls else Connection

    class Directed(base):  # type: ignore[misc]  # its class is chosen here
        def __init__(self, find: Callable[[], Any], **options: Any) -> None:
            super().__init__(**options)
            self._find = find

        async def connect(self) -> None:
            self.host, self.port = await self._find()
            await super().connect()

    return Directed
