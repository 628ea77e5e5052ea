"""Whether Kafka, as a backplane, can be reached as a node would reach it."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tidegate.backplane.kafka.servers import client_options, reason_of, tell_why
from tidegate.doctor.facts import Backplane

if TYPE_CHECKING:
    from tidegate.core.settings import BackplaneSettings

__all__ = ["look_at_backplane"]

_CONNECTIONS: Final = 3


def look_at_backplane(url: str, settings: BackplaneSettings) -> Backplane:
    """Connect and log in to all servers that the URL names.

    Args:
        url: `backplane.url`, valid by the settings.
        settings: how long an answer may take.

    Raises:
        ConfigError: aiokafka is missing, or the file of the URL cannot be read.
    """
    options = client_options(url, "backplane.url")
    options["request_timeout_ms"] = round(settings.timeout * 1000)
    parts = urlsplit(url)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    async def look() -> float:
        took = []
        for _ in range(_CONNECTIONS):
            began = monotonic()
            await tell_why(options)
            took.append(monotonic() - began)
        return min(took)

    try:
        return Backplane(url=shown, server="kafka", round_trip=asyncio.run(look()))
    except Exception as error:  # whatever a library makes of a server that is not one
        return Backplane(url=shown, error=reason_of(error))
