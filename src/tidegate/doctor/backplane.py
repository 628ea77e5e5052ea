"""What a backplane is, as a node would reach it: its version, its memory, what it keeps."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tidegate.backplane.redis.servers import connector_of, reason_of
from tidegate.doctor.facts import Backplane

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

    from tidegate.core.settings import BackplaneSettings

__all__ = ["look_at_backplane"]

_PINGS: Final = 5


def look_at_backplane(url: str, settings: BackplaneSettings) -> Backplane:
    """Connect, and read what it says of itself.

    Args:
        url: `backplane.url`, valid by the settings.
        settings: how long an answer may take.

    Raises:
        ConfigError: redis-py is missing.
    """
    connector = connector_of(url, settings.timeout)
    shown = _shown(url)
    try:
        return asyncio.run(_look(connector(), shown, settings.timeout))
    except Exception as error:  # whatever a library makes of a server that is not one
        return Backplane(url=shown, error=reason_of(error))


async def _look(connection: AbstractConnection, url: str, timeout: float) -> Backplane:
    wire: Any = connection  # `connect` has no types
    try:
        async with asyncio.timeout(timeout * 3):
            await wire.connect()
            info = _fields(await _ask(wire, "INFO"))
            trips = []
            for _ in range(_PINGS):
                asked = monotonic()
                await _ask(wire, "PING")
                trips.append(monotonic() - asked)
            save = await _setting(wire, "save")
    finally:
        await wire.disconnect(nowait=True)
    name = "valkey" if "valkey_version" in info else "redis"
    memory = int(info.get("maxmemory", "0"))
    return Backplane(
        url=url,
        server=name,
        version=info.get(f"{name}_version", ""),
        role=info.get("role", ""),
        replicas=int(info.get("connected_slaves", "0")),
        memory=memory or None,
        memory_used=int(info.get("used_memory", "0")),
        policy=info.get("maxmemory_policy", ""),
        appends=info.get("aof_enabled") == "1",
        saves=None if save is None else bool(save),
        round_trip=max(trips),
    )


async def _ask(connection: Any, *command: str) -> Any:
    await connection.send_command(*command)
    return await connection.read_response(disable_decoding=True)


async def _setting(connection: Any, name: str) -> str | None:
    """One setting of the server; None where it is not told, as by services in a cloud."""
    from redis.exceptions import ResponseError

    try:
        found = await _ask(connection, "CONFIG", "GET", name)
    except ResponseError:
        return None
    return found[1].decode() if len(found) > 1 else None


def _fields(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _shown(url: str) -> str:
    """The URL without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
