"""How long the functions of a Python application may take, and what holds if they fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tidegate.core.settings.fields import Section, setting

__all__ = ["HooksSettings"]


@dataclass(frozen=True, slots=True)
class HooksSettings(Section):
    """What the functions of a `tidegate.App` may take, and what becomes of what they do not answer.

    The same as in `webhooks`, which ask an application over HTTP.
    """

    section: ClassVar[str] = "hooks"
    timeout: float = setting(
        3.0, "Time in which an async function must answer.", unit="s", low=0.01, high=60
    )
    on_failure: str = setting(
        "refuse",
        "What becomes of a connect, join or publish whose function fails or does not answer.",
        choices=("refuse", "allow"),
    )
    max_asked: int = setting(
        1000,
        "Async functions that may be at work at a time; more of them fail at once.",
        low=1,
        high=100_000,
    )
