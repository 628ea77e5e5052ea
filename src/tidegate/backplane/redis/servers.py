"""From a URL to connections: one server, the primary that Sentinels name, or a cluster's.

    redis://[user:password@]host[:port][/db]          rediss:// with TLS
    unix:///path/of/socket[?db=0]
    redis+sentinel://host[:port],host[:port]/primary[/db]
    redis+cluster://host[:port],host[:port]           see `cluster`

`valkey` may stand for `redis` everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from tidegate.backplane.redis.cluster import Cluster, is_cluster
from tidegate.errors import BackplaneError, ConfigError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

__all__ = ["Connector", "cluster_of", "connector_of", "leave_sentinels", "reason_of", "unreachable"]

Connector = Callable[[], "AbstractConnection"]
"""Makes a connection that is not open yet."""

_SENTINEL_PORT: Final = 26379


def connector_of(url: str, timeout: float, key: str = "") -> Connector:
    """Return what makes connections to a URL's server.

    Args:
        url: valid by `backplane_url_problem`.
        timeout: seconds in which it must connect.
        key: in a cluster, to the server that has this one.

    Raises:
        ConfigError: redis-py is missing.
    """
    cluster = cluster_of(url, timeout)
    if cluster is not None:
        return cluster.connect_to(cluster.slot(key))
    from redis.asyncio import ConnectionPool

    options = _options(timeout)
    url = re.sub("^valkey", "redis", url)
    if url.startswith("redis+sentinel:"):
        return _by_sentinel(url, options)
    pool = ConnectionPool.from_url(url, **options)
    return pool.make_connection


def cluster_of(url: str, timeout: float) -> Cluster | None:
    """Return the cluster of a URL; None for one server.

    Raises:
        ConfigError: redis-py is missing.
    """
    options = _options(timeout)
    return Cluster(url, options) if is_cluster(url) else None


def _options(timeout: float) -> dict[str, Any]:
    try:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        problem = "needs redis-py: pip install 'tidegate[redis]'"
        raise ConfigError(f"backplane.url: {problem}") from None
    return {
        "protocol": 2,
        "socket_connect_timeout": timeout,
        "socket_timeout": None,  # the link watches its connection itself
        "retry": Retry(NoBackoff(), 0),  # the link knows what to do, and must learn of every end
        "health_check_interval": 0,
        "client_name": "tidegate",
    }


def _by_sentinel(url: str, options: dict[str, Any]) -> Connector:
    from redis.asyncio.sentinel import Sentinel

    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    sentinels = []
    for host in hosts.split(","):
        name, _, port = host.rpartition(":") if _has_port(host) else (host, "", "")
        sentinels.append((name.strip("[]"), int(port or _SENTINEL_PORT)))
    primary, _, db = parts.path.strip("/").partition("/")
    if credentials:
        options["username"], options["password"] = unquote(user) or None, unquote(password)
    timeout = options["socket_connect_timeout"]
    asking = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": options["retry"],
    }
    make: Any = Sentinel  # it has no types
    sentinel = make(sentinels, sentinel_kwargs=asking, db=int(db or 0), **options)
    connector: Connector = sentinel.master_for(unquote(primary)).connection_pool.make_connection
    return connector


async def leave_sentinels(connection: AbstractConnection) -> None:
    """Close the connections to the Sentinels that were asked; they are needed for a moment only."""
    pool = getattr(connection, "connection_pool", None)
    manager = getattr(pool, "sentinel_manager", None)
    for client in () if manager is None else manager.sentinels:
        await client.connection_pool.disconnect(inuse_connections=False)


def _has_port(host: str) -> bool:
    return re.search(r":\d+$", host) is not None and (host.count(":") == 1 or "]" in host)


def unreachable(error: BaseException) -> BackplaneError:
    """Return what is raised when the server of the settings cannot be used."""
    return BackplaneError(f"backplane.url: {reason_of(error)}")


def reason_of(error: BaseException) -> str:
    """Return why a connection failed, in a few words. It has no part of the URL's secrets."""
    return str(error).rstrip(".") or type(error).__name__
