"""The header fields of a scope, as a mapping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Fields"]


class Fields(Mapping[str, str]):
    """Header fields by name in lower case; repeated ones are joined (RFC 9110, section 5.3)."""

    __slots__ = ("_values",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        values: dict[str, str] = {}
        for raw_name, raw_value in fields:
            name = raw_name.decode("latin-1").lower()
            value = raw_value.decode("latin-1").strip(" \t")
            values[name] = f"{values[name]}, {value}" if name in values else value
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
