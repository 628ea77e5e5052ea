"""Requests to an application in any language: what it is asked and told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.fields import Section, setting
from tidegate.core.settings.urls import url_problem

__all__ = ["FACTS", "QUESTIONS", "WebhooksSettings"]

QUESTIONS: Final = ("connect", "join", "publish")
FACTS: Final = ("connected", "disconnected", "joined", "left", "published")

_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class WebhooksSettings(Section):
    """Where an application is asked before clients do something, and told what they did."""

    section: ClassVar[str] = "webhooks"
    url: str | None = setting(None, "Where requests are sent; without it, none are.")
    secret: str | None = setting(
        None,
        "Key of the signature that each request carries: at least 32 bytes.",
        secret=True,
    )
    questions: tuple[str, ...] = setting(
        (), "What clients may do only if the application allows it.", choices=QUESTIONS
    )
    facts: tuple[str, ...] = setting((), "What the application is told of.", choices=FACTS)
    timeout: float = setting(
        3.0, "Time in which a request must be answered.", unit="s", low=0.1, high=60
    )
    on_failure: str = setting(
        "refuse",
        "What becomes of a question that is not answered, or not as it should be.",
        choices=("refuse", "allow"),
    )
    max_asked: int = setting(
        1000,
        "Questions that may be open at a time; more of them fail at once.",
        low=1,
        high=100_000,
    )
    queue: int = setting(
        10_000,
        "Facts that wait to be sent; more of them are dropped and counted.",
        low=1,
        high=1_000_000,
    )
    retries: int = setting(
        8,
        "How often facts are sent again before they are dropped, after 0.5 s at first and 30 s "
        "at most.",
        low=0,
        high=100,
    )

    def _check(self) -> None:
        if self.url is not None:
            problem = url_problem(self.url, plain=True)
            if problem:
                raise self.error("url", problem)
            if self.secret is None:
                raise self.error("secret", "must be set, because webhooks.url is")
            if not self.questions and not self.facts:
                raise self.error("url", "needs webhooks.questions or webhooks.facts")
        elif self.questions or self.facts:
            name = "questions" if self.questions else "facts"
            raise self.error(name, "needs webhooks.url")
        if self.secret is not None and len(self.secret.encode()) < _SECRET_BYTES:
            raise self.error("secret", f"must be at least {_SECRET_BYTES} bytes")
