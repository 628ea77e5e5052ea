"""Asking the admin API of a worker, over the Unix socket that it has in the private folder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

if TYPE_CHECKING:
    from tidegate.server.supervisor.process import Worker

__all__ = ["Answer", "Question", "ask", "ask_all", "decoded"]

_SECONDS: Final = 30.0
_LARGEST: Final = 64 << 20

_T = TypeVar("_T")


class Question(NamedTuple):
    """A request to a worker."""

    path: str
    """With its query."""
    method: str = "GET"
    body: bytes = b""
    """JSON; empty for none."""
    headers: tuple[tuple[str, str], ...] = ()


class Answer(NamedTuple):
    """What a worker has answered."""

    status: int
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def good(self) -> bool:
        """Whether it did what it was asked."""
        return self.status < HTTPStatus.BAD_REQUEST


async def ask_all(workers: Iterable[Worker], question: Question) -> list[tuple[Worker, Answer]]:
    """Ask workers at the same time; those that do not answer, as they end, are left out."""
    asked = list(workers)
    answers = await asyncio.gather(*(ask(worker, question) for worker in asked))
    return [
        (worker, answer)
        for worker, answer in zip(asked, answers, strict=True)
        if answer is not None
    ]


async def ask(worker: Worker, question: Question) -> Answer | None:
    """Ask one worker; None when it does not answer."""
    try:
        async with asyncio.timeout(_SECONDS):
            return await _exchange(worker.admin, question)
    except (OSError, EOFError, ValueError):  # TimeoutError is an OSError
        return None


def decoded(answers: Iterable[tuple[Any, Answer]], into: type[_T]) -> list[_T]:
    """Return the good answers as values."""
    return [msgspec.json.decode(answer.body, type=into) for _, answer in answers if answer.good]


async def _exchange(path: str, question: Question) -> Answer:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        lines = [
            f"{question.method} {question.path} HTTP/1.1",
            "Host: localhost",
            "Connection: close",
            *(f"{name}: {value}" for name, value in question.headers),
        ]
        if question.body:
            lines += ("Content-Type: application/json", f"Content-Length: {len(question.body)}")
        elif question.method != "GET":
            lines.append("Content-Length: 0")
        writer.write("\r\n".join((*lines, "", "")).encode("latin-1") + question.body)
        head = await reader.readuntil(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, colon, value in (field.partition(":") for field in fields)
            if colon
        }
        length = int(headers.get("content-length", "0"))
        if length > _LARGEST:
            raise ValueError("the answer is too large")
        return Answer(int(status.split(" ", 2)[1]), headers, await reader.readexactly(length))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
