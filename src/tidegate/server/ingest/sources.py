"""All consumers of a node: they begin when it serves, and end before it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tidegate.core.stats import Ingested
from tidegate.engine.application import Application
from tidegate.errors import ConfigError
from tidegate.server.ingest.pump import Pump

if TYPE_CHECKING:
    from tidegate.backplane.base import Done
    from tidegate.core.codes import Fault
    from tidegate.core.messaging.publication import Publication
    from tidegate.core.settings import IngestSource
    from tidegate.node.node import Node
    from tidegate.server.ingest.base import Source

__all__ = ["ingesting", "source_of"]

_STOP_SECONDS: Final = 12.0


@asynccontextmanager
async def ingesting(node: Node) -> AsyncIterator[None]:
    """Read the sources of the settings, as long as the context lasts.

    Raises:
        ConfigError: a package is missing, a file cannot be read, or there are no rooms.
    """

    if node.settings.ingest.sources and type(node.application).frame is Application.frame:
        raise ConfigError("ingest.sources: the application that runs here has no rooms")

    def publish(publication: Publication, done: Done) -> None:
        def told(fault: Fault | None) -> None:
            if fault is None:
                node.stats.published["ingest"] += 1
            done(fault)

        node.delivery.publish(publication, told)

    pumps = []
    for settings in node.settings.ingest.sources:
        make = partial(source_of, settings, node.engine.shared.name)
        make()  # what is wrong with it is known before anything begins
        counts = node.stats.ingest[settings.name] = Ingested()
        pumps.append(Pump(settings, make, publish, counts))
    tasks = [asyncio.create_task(pump.run()) for pump in pumps]
    try:
        yield
    finally:
        for pump in pumps:
            pump.stop()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_STOP_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)


def source_of(settings: IngestSource, node: str) -> Source:
    """Return the source of some settings, not connected.

    Raises:
        ConfigError: a package is missing, or a file of the URL cannot be read.
    """
    made: Any
    if settings.url.startswith("kafka"):
        from tidegate.server.ingest.kafka import KafkaSource

        made = KafkaSource
    elif settings.url.startswith(("nats:", "tls:")):
        from tidegate.server.ingest.nats import NatsSource

        made = NatsSource
    else:
        from tidegate.server.ingest.redis import RedisSource

        made = RedisSource
    source: Source = made(settings, node)
    return source
