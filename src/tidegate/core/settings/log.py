"""What is logged, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tidegate.core.settings.fields import Section, setting

__all__ = ["LogSettings"]


@dataclass(frozen=True, slots=True)
class LogSettings(Section):
    """The log of `tidegate serve`, on standard error."""

    section: ClassVar[str] = "log"
    level: str = setting(
        "info",
        "The least important events that are logged.",
        choices=("debug", "info", "warning", "error"),
    )
    format: str = setting(
        "text",
        "How an event is written: a line of text or a JSON object.",
        choices=("text", "json"),
    )
