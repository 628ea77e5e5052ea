"""URLs of servers between nodes and of those that records come from, and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from re import Pattern
from typing import Final
from urllib.parse import parse_qs, urlsplit

__all__ = ["KAFKA", "NATS", "REDIS", "REDIS_CLUSTER", "Kind", "server_problem"]

_NATS_FILES: Final = ("creds", "nkey", "ca", "cert", "key")
_KAFKA_OPTIONS: Final = ("sasl", "ca")
_SASL: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Kind:
    """A kind of server: its schemes, how its URLs look, and what else is wrong with one."""

    schemes: Pattern[str]
    wording: str
    problem: Callable[[str], str]
    """Returns what is wrong, empty if nothing. Raises ValueError for what is no URL."""

    def match(self, url: str) -> bool:
        """Whether a URL is of this kind."""
        return self.schemes.match(url) is not None


def server_problem(url: str, *kinds: Kind) -> str:
    """Return what is wrong with a URL, without its secrets; empty if nothing."""
    wording = f"must be a URL: {', '.join(kind.wording for kind in kinds)}"
    for kind in kinds:
        if kind.match(url):
            try:
                return kind.problem(url)
            except ValueError:
                return wording
    return wording


def _redis_problem(url: str) -> str:
    parts = urlsplit(url)
    if "sentinel" not in parts.scheme:
        _ = parts.port
    if parts.scheme == "unix":
        return "" if parts.path.startswith("/") else "must have the path of a socket"
    if not parts.netloc.rpartition("@")[2]:
        return "must have a host"
    path = parts.path.strip("/")
    if "sentinel" in parts.scheme:
        primary, _, db = path.partition("/")
        if not primary:
            return "must have the name of the primary, as the sentinels know it"
        path = db
    return "must end with the number of a database" if path and not path.isdecimal() else ""


def _hosts_problem(url: str, options: tuple[str, ...]) -> str:
    """Return what is wrong with a URL of several hosts and some parameters."""
    parts = urlsplit(url)
    hosts = [urlsplit(f"//{host}") for host in parts.netloc.rpartition("@")[2].split(",")]
    _ = [host.port for host in hosts]
    given = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    if not all(host.hostname for host in hosts):
        return "must have a host"
    if parts.path.strip("/"):
        return "must end with the hosts: there are no databases"
    if any(name not in options for name in given):
        return f"must have no other parameters than {', '.join(options)}"
    return ""


def _nats_problem(url: str) -> str:
    given = parse_qs(urlsplit(url).query)
    problem = _hosts_problem(url, _NATS_FILES)
    if not problem and "creds" in given and "nkey" in given:
        problem = "must have creds or nkey, not both"
    if not problem and "key" in given and "cert" not in given:
        problem = "must have cert where it has key"
    return problem


def _kafka_problem(url: str) -> str:
    parts = urlsplit(url)
    problem = _hosts_problem(url, _KAFKA_OPTIONS)
    credentials = parts.netloc.rpartition("@")[0]
    given = parse_qs(parts.query)
    if not problem and credentials and ":" not in credentials:
        problem = "must have user:password before the @"
    if not problem and given.get("sasl", ["PLAIN"])[-1] not in _SASL:
        problem = f"sasl must be one of {', '.join(_SASL)}"
    return problem


REDIS: Final = Kind(
    re.compile(r"(redis|rediss|valkey|valkeys|unix|(redis|valkey)\+sentinel)://"),
    "redis://host:port/db, rediss:// (TLS), unix:///path, "
    "redis+sentinel://host:port,host:port/primary",
    _redis_problem,
)
REDIS_CLUSTER: Final = Kind(
    re.compile(r"(rediss?|valkeys?)\+cluster://"),
    "redis+cluster://host:port,host:port",
    lambda url: _hosts_problem(url, ()),
)
NATS: Final = Kind(
    re.compile("(nats|tls)://"), "nats://host:port or tls://host:port (NATS)", _nats_problem
)
KAFKA: Final = Kind(
    re.compile(r"kafka(\+tls)?://"), "kafka://host:port or kafka+tls://host:port", _kafka_problem
)
