"""Questions: one request each, while the client waits and nobody else does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import json

from tidegate.core.admission.attempt import Identity, Reject
from tidegate.core.codes import FORBIDDEN, HOOK_FAILED, REFUSED, UNANSWERED, Fault
from tidegate.core.messaging.publication import Publication
from tidegate.server.webhooks.breaker import Breaker
from tidegate.server.webhooks.events import (
    AnswerError,
    ConnectAnswer,
    JoinAnswer,
    PublishAnswer,
    event,
    read,
)
from tidegate.server.webhooks.sending import Sender, SendingError

if TYPE_CHECKING:
    from collections import Counter

    from tidegate.core.settings import WebhooksSettings
    from tidegate.gate.decision import OpeningRequest
    from tidegate.gate.identity import Found

__all__ = ["Questions"]

_log = logging.getLogger("tidegate")

T = TypeVar("T")


class Questions:
    """Asks the receiver, and gives the outcome of the settings where it does not answer.

    Args:
        counts: counts what became of the questions.
    """

    def __init__(self, settings: WebhooksSettings, sender: Sender, counts: Counter[str]) -> None:
        self._sender = sender
        self._counts = counts
        self._allows = settings.on_failure == "allow"
        self._most = settings.max_asked
        self._breaker = Breaker()
        self._count = 0
        self._open: set[asyncio.Task[Any]] = set()

    async def connect(self, request: OpeningRequest, identity: Identity) -> Found:
        """Ask whether an attempt may become a connection, and whose."""
        data = {
            "user": identity.user,
            "tier": identity.tier,
            "address": request.address,
            "path": request.path,
            "origin": request.origin,
            "userAgent": (request.headers or {}).get("user-agent"),
        }
        try:
            answer = await self._ask("connect", data, ConnectAnswer)
            found = identity if answer is None else answer.identity(identity)
        except (SendingError, AnswerError) as error:
            self._failed("connect", error)
            return identity if self._allows else Reject(HOOK_FAILED, HOOK_FAILED.retry_after)
        if answer is not None and not answer.allow:
            self._counts["refused"] += 1
            return Reject(FORBIDDEN, answer.retry_after)
        self._counts["allowed"] += 1
        return found

    async def join(self, connection: str, user: str | None, room: str) -> Fault | None:
        """Ask whether a connection may join a room."""
        data = {"connectionId": connection, "user": user, "room": room}
        try:
            answer = await self._ask("join", data, JoinAnswer)
        except (SendingError, AnswerError) as error:
            self._failed("join", error)
            return None if self._allows else UNANSWERED
        return self._said(answer.allow)

    async def publish(self, publication: Publication, most: int) -> Publication | Fault:
        """Ask whether, and what, may be published.

        Args:
            most: the most bytes that the application may put in place of a message.
        """
        data = {
            "connectionId": publication.connection,
            "user": publication.sender,
            "room": publication.room,
            "data": publication.data,
        }
        try:
            answer = await self._ask("publish", data, PublishAnswer)
            if len(answer.data) > most:
                raise AnswerError(f"data has more than {most} bytes")
        except (SendingError, AnswerError) as error:
            self._failed("publish", error)
            return publication if self._allows else UNANSWERED
        refused = self._said(answer.allow)
        if refused is not None:
            return refused
        if not answer.data:
            return publication
        # A copy: what was decoded would keep the whole answer in memory.
        return replace(publication, data=answer.data.copy())

    def begin(self, question: Any, done: Callable[[Any], None]) -> None:
        """Carry out a question in a task, and call `done` with what it returns.

        Nothing is called when the server ends before that.
        """
        task = asyncio.get_running_loop().create_task(question)
        self._open.add(task)

        def answered(task: asyncio.Task[Any]) -> None:
            self._open.discard(task)
            if task.cancelled():
                return
            error = task.exception()
            if error is not None:
                _log.error("a webhook failed", exc_info=error)
            done(UNANSWERED if error is not None else task.result())

        task.add_done_callback(answered)

    def stop(self) -> None:
        """Give up the questions that are open."""
        for task in list(self._open):
            task.cancel()

    async def _ask(self, kind: str, data: dict[str, Any], answer: type[Any]) -> Any:
        if self._count >= self._most:
            raise SendingError("too many questions are open")
        if not self._breaker.allows(monotonic()):
            raise SendingError("it has failed several times in a row, and is not asked for now")
        self._count += 1
        try:
            text = await self._sender.post(json.encode(event(kind, data)))
            read_answer = read(text, answer)
        except (SendingError, AnswerError) as error:
            if self._breaker.failed(monotonic()):
                _log.error("the receiver of webhooks is not asked for some seconds: %s", error)
            raise
        finally:
            self._count -= 1
        if self._breaker.succeeded():
            _log.info("the receiver of webhooks answers again")
        return read_answer

    def _said(self, allow: bool) -> Fault | None:
        self._counts["allowed" if allow else "refused"] += 1
        return None if allow else REFUSED

    def _failed(self, kind: str, error: Exception) -> None:
        self._counts["failed"] += 1
        _log.debug("the webhook %s failed: %s", kind, error)
