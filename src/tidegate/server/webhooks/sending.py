"""One request to the receiver: signed, bounded in time and size, and never redirected.

    Tidegate-Signature: t=1800000000,v1=<hex of HMAC-SHA256(secret, "1800000000." + body)>

The time is in the signature so that a receiver can refuse requests that somebody recorded.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from importlib import import_module
from time import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from tidegate.addresses import is_loopback
from tidegate.errors import ConfigError, TidegateError

if TYPE_CHECKING:
    from tidegate.core.settings import WebhooksSettings

__all__ = ["SIGNATURE", "Sender", "SendingError", "signature"]

SIGNATURE: Final = "Tidegate-Signature"
_AGENT: Final = "tidegate-webhooks"
_CONNECTIONS: Final = 100


class SendingError(TidegateError):
    """A request was not answered, or not with success; the text is for the operator."""


def signature(secret: str, body: bytes, now: int) -> str:
    """Return the header that a receiver checks; `now` is in Unix seconds."""
    signed = b"%d.%b" % (now, body)
    return f"t={now},v1={hmac.new(secret.encode(), signed, sha256).hexdigest()}"


class Sender:
    """Sends requests to the URL of the settings.

    Args:
        max_answer: the most bytes of an answer that are read.

    Raises:
        ConfigError: the HTTP client is not installed.
    """

    def __init__(self, settings: WebhooksSettings, max_answer: int) -> None:
        assert settings.url is not None
        assert settings.secret is not None
        try:
            self._http: Any = import_module("httpx2")
        except ImportError:
            raise ConfigError("webhooks.url needs pip install 'tidegate[http]'") from None
        self._url = settings.url
        self._secret = settings.secret
        self._timeout = settings.timeout
        self._max_answer = max_answer
        self._client: Any = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hold connections to the receiver open while the block runs."""
        http = self._http
        # Reading the certificates of the system takes many milliseconds.
        context = await asyncio.to_thread(http.create_ssl_context)
        limits = http.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=20)
        local = is_loopback(urlsplit(self._url).hostname or "")
        async with http.AsyncClient(
            verify=context, limits=limits, timeout=self._timeout, trust_env=not local
        ) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    async def post(self, body: bytes) -> bytes:
        """Send a request, and return the body of the answer.

        Raises:
            SendingError: there was none in time, its status is not one of success, or it is too
                large.
        """
        if self._client is None:
            raise SendingError("requests are sent only while the server runs")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(body)
        except TimeoutError:
            raise SendingError(f"no answer within {self._timeout:g} s") from None
        except (self._http.HTTPError, OSError) as error:
            # Its text may quote what was received.
            raise SendingError(f"the request failed ({type(error).__name__})") from None

    async def _post(self, body: bytes) -> bytes:
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": _AGENT,
            SIGNATURE: signature(self._secret, body, int(time())),
        }
        answer = bytearray()
        async with self._client.stream("POST", self._url, content=body, headers=headers) as got:
            if not 200 <= got.status_code < 300:
                raise SendingError(f"the status is {got.status_code}")
            async for part in got.aiter_raw():
                answer += part
                if len(answer) > self._max_answer:
                    raise SendingError(f"the answer has more than {self._max_answer} bytes")
        return bytes(answer)
