"""What carries messages, and counts connections, between the nodes of a fleet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting
from tidegate.core.settings.servers import KAFKA, NATS, REDIS, REDIS_CLUSTER, server_problem

__all__ = ["BackplaneSettings"]

_MIB: Final = 1 << 20
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class BackplaneSettings(Section):
    """What connects this node with others. Without a URL it is alone."""

    section: ClassVar[str] = "backplane"
    url: str | None = setting(
        None, "The Valkey, Redis, NATS or Kafka that all nodes of the fleet share.", secret=True
    )
    prefix: str = setting(
        "tidegate",
        "How the names of its keys and channels begin: fleets of different prefixes know nothing "
        "of each other.",
    )
    timeout: float = setting(
        2.0,
        "Time in which it must answer; else the connection to it is made again.",
        unit="s",
        low=0.1,
        high=60,
    )
    private: bool = setting(
        True,
        "Whether the workers of one server (`server.workers`) get a Valkey of their own where no "
        "URL is set and `tidegate[workers]` is installed. Without one, each worker is alone.",
    )
    private_memory: int = setting(
        256 * _MIB,
        "Memory that this Valkey may use for histories, presence and sessions. When it is full, "
        "messages that would be kept are refused.",
        unit="bytes",
        low=16 * _MIB,
        high=1 << 44,
    )
    replicas: int = setting(
        1,
        "On how many servers of a cluster new messages are kept: histories of rooms, sessions and "
        "revocations by NATS, all messages by Kafka.",
        low=1,
        high=5,
    )

    def _check(self) -> None:
        if self.url is not None:
            problem = server_problem(self.url, REDIS, REDIS_CLUSTER, NATS, KAFKA)
            if problem:
                raise self.error("url", problem)
        if not _PREFIX.fullmatch(self.prefix):
            raise self.error("prefix", "must be 1 to 64 letters, digits, _, ., : or -")
        if self.url is not None and KAFKA.match(self.url) and ":" in self.prefix:
            raise self.error("prefix", "must be without :, as a topic of Kafka is named by it")
