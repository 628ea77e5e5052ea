"""A real cluster of Valkey servers: three primaries, each with a replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from redis.crc import key_slot

from tests.support.net import free_port, wait_until
from tests.support.valkey import Valkey

__all__ = ["ValkeyCluster", "valkey_cluster"]

_SLOTS = ((0, 5460), (5461, 10922), (10923, 16383))


class ValkeyCluster:
    """Six servers; the replica of the primary `n` is `n + 3`."""

    def __init__(self, folder: Path) -> None:
        self.servers: list[Valkey] = []
        buses = []
        for number in range(6):
            bus = free_port()
            options = (
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
                *("--cluster-port", str(bus), "--repl-diskless-sync-delay", "0"),
            )
            self.servers.append(Valkey(folder / f"{number}", *options))
            buses.append(bus)
        first = self.servers[0]
        for own, (low, high) in zip(self.servers, _SLOTS, strict=False):
            own.command("CLUSTER", "ADDSLOTSRANGE", str(low), str(high))
        for own, bus in zip(self.servers[1:], buses[1:], strict=True):
            own_address = ("127.0.0.1", str(own.port), str(bus))
            assert first.command("CLUSTER", "MEET", *own_address).startswith(b"+OK")
        wait_until(lambda: all(self._knows_all(own) for own in self.servers), 30, "they meet")
        for primary, replica in zip(self.servers[:3], self.servers[3:], strict=True):
            asked = partial(_is_done, replica, "REPLICATE", _id_of(primary))
            wait_until(asked, 20, "it is a replica")
        for replica in self.servers[3:]:
            wait_until(partial(_has_copy, replica), 30, "it has a copy")
        wait_until(lambda: all(self._is_up(own) for own in self.servers), 30, "all slots are up")

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{own.port}" for own in self.servers[:2])
        return f"redis+cluster://{hosts}"

    def primary_of(self, name: str) -> int:
        """The number of the primary that has a key or a channel, before any failover."""
        slot = key_slot(name.encode())
        return next(number for number, (low, high) in enumerate(_SLOTS) if low <= slot <= high)

    def fail_over(self, number: int) -> None:
        """Kill a primary, and wait until its replica is one."""
        self.servers[number].kill()
        replica = self.servers[number + 3]
        wait_until(lambda: b"role:master" in replica.command("INFO", "replication"), 30)

    def change_over(self, number: int) -> None:
        """Let a replica take over from its primary, which stays as a replica."""
        replica = self.servers[number + 3]
        assert replica.command("CLUSTER", "FAILOVER").startswith(b"+OK")
        wait_until(lambda: b"role:master" in replica.command("INFO", "replication"), 30)

    def move(self, name: str, to: int) -> None:
        """Move the slot of a key or a channel to another primary, with what is in it."""
        slot = str(key_slot(name.encode()))
        source, target = self.servers[self.primary_of(name)], self.servers[to]
        ids = [_id_of(own) for own in (source, target)]
        assert target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])[:1] == b"+"
        assert source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])[:1] == b"+"
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, "100").split(b"\r\n")[2::2]:
            names = [key.decode() for key in keys]
            where = ("127.0.0.1", str(target.port), "", "0", "5000")
            assert source.command("MIGRATE", *where, "KEYS", *names)[:1] == b"+"
        for own in (target, source, *self.servers):
            own.command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])

    def cut(self, node: str) -> None:
        """End the connections that subscribe; they may come back at once."""
        for own in self.servers:
            own.command("CLIENT", "KILL", "TYPE", "pubsub")

    def forget(self) -> None:
        """Throw their data away: they keep none."""

    def freeze(self) -> None:
        """Let them do nothing; their connections stay."""
        for own in self.servers:
            own.freeze()

    def thaw(self) -> None:
        """Let them go on."""
        for own in self.servers:
            own.thaw()

    def kill(self) -> None:
        """Kill all of them."""
        for own in self.servers:
            own.kill()

    def start(self) -> None:
        """Start all that do not run."""
        for own in self.servers:
            own.start()
        wait_until(lambda: all(self._is_up(own) for own in self.servers), 30, "all slots are up")

    def stop(self) -> None:
        """Stop all of them."""
        for own in self.servers:
            own.stop()

    def command(self, *words: str) -> bytes:
        """Ask the first server."""
        return self.servers[0].command(*words)

    def _knows_all(self, own: Valkey) -> bool:
        return b"cluster_known_nodes:6" in own.command("CLUSTER", "INFO")

    def _is_up(self, own: Valkey) -> bool:
        return b"cluster_state:ok" in own.command("CLUSTER", "INFO")


def _id_of(own: Valkey) -> str:
    return own.command("CLUSTER", "MYID").split(b"\r\n")[1].decode()


def _has_copy(own: Valkey) -> bool:
    return b"master_link_status:up" in own.command("INFO", "replication")


def _is_done(own: Valkey, *words: str) -> bool:
    return own.command("CLUSTER", *words).startswith(b"+OK")


@contextmanager
def valkey_cluster(folder: Path) -> Iterator[ValkeyCluster]:
    """They end with the block."""
    made = ValkeyCluster(folder)
    try:
        yield made
    finally:
        made.stop()
