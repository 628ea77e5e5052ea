"""Where messages come from that are published to rooms: topics of Kafka, NATS and Redis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting, shown
from tidegate.core.settings.servers import KAFKA, NATS, REDIS, server_problem
from tidegate.core.settings.templates import RoomTemplate

__all__ = ["IngestSettings", "IngestSource"]

_TOPIC: Final = re.compile(r"[^\x00-\x20\x7f*>]+")


@dataclass(frozen=True, slots=True)
class IngestSource(Section):
    """One consumer: where its records come from, and to which rooms they go."""

    section: ClassVar[str] = "ingest.sources"
    name: str = setting(
        "main",
        "What metrics and the log call it.",
        pattern=r"[A-Za-z0-9_-]{1,64}",
        wording="1 to 64 letters, digits, _ or -",
    )
    url: str = setting(
        "",
        "The servers, as in backplane.url: kafka://host:port,host:port, nats://host or "
        "redis://host.",
        pattern=r"[^\x00-\x1f\x7f\ud800-\udfff]*",
        secret=True,
    )
    topics: tuple[str, ...] = setting(
        (), "Topics of Kafka, subjects that a JetStream stream keeps, or streams of Redis."
    )
    room: str = setting(
        "{key}",
        "The room of a record: a text in which {key}, {topic}, {header.NAME} and {field.NAME}, of "
        "its JSON, stand for what it has.",
    )
    group: str = setting(
        "tidegate",
        "The consumer group, or durable consumer: those that are in the same share the records.",
        pattern=r"[A-Za-z0-9_-]{1,64}",
        wording="1 to 64 letters, digits, _ or -",
    )
    start: str = setting(
        "latest",
        "Where a new group begins: with what comes from now on, or with the oldest that is kept.",
        choices=("latest", "earliest"),
    )
    format: str = setting(
        "json",
        "What records hold: json is published as it is, text as a string.",
        choices=("json", "text"),
    )
    max_in_flight: int = setting(
        1000,
        "Records that may be on their way to rooms; beyond it, no more are read.",
        low=1,
        high=100_000,
    )

    def _check(self) -> None:
        problem = server_problem(self.url, KAFKA, NATS, REDIS)
        if problem:
            raise self.error("url", problem)
        if not self.topics:
            raise self.error("topics", "must name one at least")
        for topic in self.topics:
            if NATS.match(self.url):
                if not re.fullmatch(r"[^\x00-\x20\x7f]+", topic):
                    raise self.error("topics", f"must be subjects, and {shown(topic)} is none")
            elif not _TOPIC.fullmatch(topic):
                raise self.error("topics", f"must be names without spaces, * and >: {shown(topic)}")
        try:
            RoomTemplate(self.room)
        except ValueError as error:
            raise self.error("room", str(error)) from None


@dataclass(frozen=True, slots=True)
class IngestSettings(Section):
    """Consumers that publish to rooms what other systems write to topics."""

    section: ClassVar[str] = "ingest"
    sources: tuple[IngestSource, ...] = setting(
        (),
        "A section for each consumer.",
        wording="a section with name, url, topics and room",
        secret=True,
    )

    def _check(self) -> None:
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise self.error("sources", f"must not have two of name {shown(name)}")
