"""A receiver of webhooks over HTTP, which answers as a test says: well, badly, late or never."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from tests.support.local_http import Handler, LocalHttp

__all__ = ["HOOK_SECRET", "Receiver"]

HOOK_SECRET = "a secret for webhooks of 32 bytes or more"


class Receiver(LocalHttp):
    """Answers questions by `answer`, and keeps what it is told.

    `status`, `raw` and `headers` replace what it answers; while `hang` is cleared it does not.
    """

    def __init__(self) -> None:
        self.answer: Callable[[str, dict[str, Any]], Any] = lambda kind, data: {"allow": True}
        self.status = 200
        self.raw: bytes | None = None
        self.headers: dict[str, str] = {}
        self.requests: list[dict[str, Any]] = []
        self.facts: list[dict[str, Any]] = []
        self.bad_signatures = 0
        owner = self

        class Hooks(Handler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not owner.signed(self.headers["Tidegate-Signature"], body):
                    owner.bad_signatures += 1
                message = json.loads(body)
                owner.requests.append(message)
                owner.hang.wait(20)
                if message["type"] == "facts":
                    if owner.status == 200:
                        owner.facts += message["events"]
                    answer = b""
                else:
                    answer = json.dumps(owner.answer(message["type"], message["data"])).encode()
                answer = answer if owner.raw is None else owner.raw
                self.respond(owner.status, owner.headers, answer)

        super().__init__(Hooks)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def settings(self, **more: Any) -> dict[str, Any]:
        return {"url": self.url, "secret": HOOK_SECRET, **more}

    def asked(self, kind: str) -> list[dict[str, Any]]:
        return [request["data"] for request in self.requests if request["type"] == kind]

    def told(self) -> list[str]:
        return [fact["type"] for fact in self.facts]

    def signed(self, header: str, body: bytes) -> bool:
        """As the guide says how to check it."""
        fields = dict(part.split("=", 1) for part in header.split(","))
        expected = hmac.new(
            HOOK_SECRET.encode(), fields["t"].encode() + b"." + body, sha256
        ).hexdigest()
        fresh = abs(time.time() - int(fields["t"])) < 300
        return fresh and hmac.compare_digest(expected, fields["v1"])
