"""From a record to a publication, or to the reason why it is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from tidegate.core.messaging.publication import Publication
from tidegate.core.settings.templates import RoomTemplate
from tidegate.wire.messages import MAX_ROOM, is_name

if TYPE_CHECKING:
    from tidegate.core.settings import IngestSource
    from tidegate.server.ingest.base import Record

__all__ = ["BadRecordError", "Rule"]

_json: Final = msgspec.json.Decoder(Raw)
_value: Final = msgspec.json.Decoder()
_encode: Final = msgspec.json.Encoder().encode


class BadRecordError(Exception):
    """A record cannot be published, however often it is tried."""


class Rule:
    """Says which room a record goes to, and what is published of it."""

    def __init__(self, settings: IngestSource) -> None:
        self._template = RoomTemplate(settings.room)
        self._text = settings.format == "text"

    def publication(self, record: Record) -> Publication:
        """Return what is published.

        Raises:
            BadRecordError: the record is not as the settings say.
        """
        fields: Any = None
        try:
            if self._text:
                data = Raw(_encode(record.value.decode()))
            else:
                data = _json.decode(record.value).copy()
            if self._template.needs_fields:
                fields = _value.decode(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kind = "text" if self._text else "JSON"
            raise BadRecordError(f"it is no valid {kind}") from None

        def part(name: str) -> str | None:
            if name == "key":
                found: Any = record.key
            elif name == "topic":
                found = record.topic
            elif name.startswith("header."):
                found = record.headers.get(name[7:])
            else:
                found = _field(fields, name[6:])
            if found is None:
                raise BadRecordError(f"it has no {name}")
            return str(found)

        room = self._template.fill(part)
        if room is None or not is_name(room, MAX_ROOM) or not room:
            raise BadRecordError("its room would have no valid name")
        return Publication(room, data)


def _field(value: Any, path: str) -> str | None:
    """Return a text or whole number inside JSON, by its names with dots between them."""
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)
