"""Fetches the published keys of issuers, beside whatever else the loop does.

What an issuer answers is not trusted with anything but its keys: the time and the size are
bounded, and no redirect is followed, because it could lead to any host.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from tidegate.addresses import is_loopback
from tidegate.core.settings import AuthSettings
from tidegate.gate.jwks import Fetched, KeysWanted
from tidegate.gate.tokens import Authenticator, Checked

if TYPE_CHECKING:
    import ssl

__all__ = ["TIMEOUT", "Fetcher", "check_token"]

TIMEOUT: Final = 4.0
"""Seconds for one fetch; less than the time in which a handshake or a first message must come."""
_MAX_BYTES: Final = 512 * 1024
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)


class Fetcher:
    """Fetches URLs in tasks of the running loop (`gate.jwks.Fetch`)."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Fetched]] = set()

    def __call__(self, url: str, done: Callable[[Fetched], None], /) -> None:
        """Begin to fetch a URL; `done` is called with the outcome, whatever it is."""
        task = asyncio.get_running_loop().create_task(_fetch(url))
        self._tasks.add(task)

        def ended(task: asyncio.Task[Fetched]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                done(Fetched(None, problem="it was cancelled"))
            else:
                done(task.result())

        task.add_done_callback(ended)


async def check_token(auth: AuthSettings, token: str) -> Checked:
    """Return what a token holds that a gate with these settings accepts now.

    Raises:
        Unauthorized: the token is not accepted; `detail` says what is wrong.
        KeysUnavailable: the keys of its issuer cannot be fetched.
        ConfigError: a key cannot be read, or does not fit the algorithms.
    """
    loop = asyncio.get_running_loop()
    authenticator = Authenticator(auth, (), Fetcher(), loop.time)
    try:
        return authenticator.check(token)
    except KeysWanted as wanted:
        known = loop.create_future()
        wanted.keys.then(lambda: known.set_result(None))
        await known
    return authenticator.check(token)


async def _fetch(url: str) -> Fetched:
    import httpx2

    try:
        async with asyncio.timeout(TIMEOUT):
            return await _get(url)
    except TimeoutError:
        return Fetched(None, problem=f"no answer within {TIMEOUT:g} s")
    # The texts of these may quote what was received.
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        return Fetched(None, problem=f"the request failed ({type(error).__name__})")
    except Exception as error:
        return Fetched(None, problem=f"the request failed unexpectedly ({type(error).__name__})")


async def _get(url: str) -> Fetched:
    import httpx2

    local = is_loopback(urlsplit(url).hostname or "")
    # Reading the certificates of the system takes many milliseconds.
    plain = url.startswith("http:")
    context = False if plain else await asyncio.to_thread(_certificates)
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with (
        # A proxy of the environment is for other hosts than this one.
        httpx2.AsyncClient(verify=context, trust_env=not local, timeout=TIMEOUT) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code != 200:
            return Fetched(None, problem=f"the status is {response.status_code}, not 200")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > _MAX_BYTES:
                return Fetched(None, problem=f"it has more than {_MAX_BYTES // 1024} KiB")
        found = _MAX_AGE.search(response.headers.get("cache-control", ""))
        return Fetched(bytes(body), float(found[1]) if found else None)


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    import httpx2

    return httpx2.create_ssl_context()
