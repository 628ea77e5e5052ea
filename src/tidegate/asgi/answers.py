"""What the middleware itself answers over HTTP, in place of the application."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tidegate.asgi.local import LocalGate
    from tidegate.asgi.types import Scope, Send

__all__ = ["Answer", "answer", "metrics_of", "ready"]


class Answer(NamedTuple):
    """A whole response."""

    status: int
    body: bytes
    kind: str = "application/json"


async def answer(scope: Scope, send: Send, said: Answer) -> None:
    """Send a response; to HEAD without its body (RFC 9110, section 9.3.2)."""
    headers = [
        (b"content-type", said.kind.encode()),
        (b"content-length", b"%d" % len(said.body)),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": said.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else said.body
    await send({"type": "http.response.body", "body": body})


def ready(gate: LocalGate) -> Answer:
    """Tell whether the process should get new connections."""
    is_ready, reason = gate.ready
    if is_ready:
        return Answer(HTTPStatus.OK, b'{"ready": true}')
    body = json.dumps({"ready": False, "reason": reason}).encode()
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, body)


def metrics_of(gate: LocalGate) -> Callable[[Scope], Answer]:
    """Return what answers with the metrics of a gate.

    Raises:
        ImportError: prometheus-client is not installed.
    """
    try:
        from tidegate.asgi.metrics import GateMetrics
        from tidegate.node.control.exposition import exposition
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tidegate"):
            raise
        raise ImportError(
            f"metrics_path needs {error.name}: pip install 'tidegate[serve]'"
        ) from error
    collector = GateMetrics(gate)

    def metrics(scope: Scope) -> Answer:
        accepted = b",".join(value for name, value in scope["headers"] if name.lower() == b"accept")
        body, kind = exposition(collector, accepted.decode("latin-1"))
        return Answer(HTTPStatus.OK, body, kind)

    return metrics
