"""From a URL to a connection: one server of a NATS cluster, whichever is there.

    nats://[user:password@]host[:port][,host[:port]]      tls:// demands TLS
    nats://token@host[:port]
    nats://host?creds=/path/of/file.creds                 also nkey=, ca=, cert=, key=

`creds` is a file of a user's JWT and seed as `nsc` writes it, `nkey` one of a seed alone. `ca` is a
file of certificates to trust, `cert` and `key` are the client's own.
"""

from __future__ import annotations

import asyncio
import base64
import random
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from tidegate.backplane.nats.wire import Wire
from tidegate.errors import BackplaneError, ConfigError

__all__ = ["Servers", "unreachable"]

_PORT: Final = 4222
_SECTION: Final = re.compile(r"-+BEGIN ([A-Z ]+)-+\s+(\S+)\s+-+END")


class Servers:
    """Connects to one of the servers of a URL, or of those that they have named.

    Args:
        url: valid by the settings.
        timeout: seconds in which a server must be connected.
        node: the name of this node, which the server shows with its connections.

    Raises:
        ConfigError: a file that the URL names cannot be read, or a package is missing.
    """

    def __init__(self, url: str, timeout: float, node: str) -> None:
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        self._tls = parts.scheme == "tls"
        self._hosts = [_host(one) for one in hosts.split(",")]
        self._named: list[tuple[str, int]] = []
        self._timeout = timeout
        self._name = f"tidegate {node}"
        self._login: dict[str, str] = {}
        if credentials:
            user, colon, password = credentials.partition(":")
            if colon:
                self._login = {"user": unquote(user), "pass": unquote(password)}
            else:
                self._login = {"auth_token": unquote(user)}
        files = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self._context = _context(files)
        self._jwt, seed = "", ""
        if "creds" in files:
            sections = dict(_SECTION.findall(_text(files["creds"], "creds")))
            self._jwt = sections.get("NATS USER JWT", "")
            seed = sections.get("USER NKEY SEED", "")
            if not self._jwt or not seed:
                raise ConfigError("backplane.url: the file of creds has no JWT or no seed")
        elif "nkey" in files:
            found = re.search(r"^SU[A-Z2-7]+$", _text(files["nkey"], "nkey"), re.MULTILINE)
            if found is None:
                raise ConfigError("backplane.url: the file of nkey has no seed of a user")
            seed = found[0]
        self._key = _key(seed) if seed else None

    async def connect(self, make: Callable[[], Wire]) -> Wire:
        """Return a connection over which commands can be sent.

        Raises:
            Exception: the reason of the server that was tried last.
        """
        hosts = list(dict.fromkeys((*self._hosts, *self._named)))
        random.shuffle(hosts)
        error: Exception = ConnectionError("there is no server")
        for host, port in hosts:
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._connect(make, host, port)
            except TimeoutError:
                error = TimeoutError(f"no answer in {self._timeout:g} s")
            except Exception as failed:
                error = failed
        raise error

    def informed(self, info: dict[str, Any]) -> None:
        """Remember which other servers there are."""
        named = info.get("connect_urls") or ()
        self._named = [_host(one) for one in named if isinstance(one, str)][:64]

    async def _connect(self, make: Callable[[], Wire], host: str, port: int) -> Wire:
        loop = asyncio.get_running_loop()
        transport: asyncio.BaseTransport
        transport, wire = await loop.create_connection(make, host, port)
        try:
            try:
                info = await wire.first
            except asyncio.CancelledError:
                if wire.lost.done():
                    raise wire.lost.result() from None
                raise
            if self._tls or info.get("tls_required"):
                if not (info.get("tls_required") or info.get("tls_available")):
                    raise ConnectionError("the server has no TLS")
                secure = await loop.start_tls(
                    transport,
                    wire,
                    self._context or ssl.create_default_context(),
                    server_hostname=host,
                )
                assert secure is not None
                wire.use(secure)
            answer: asyncio.Future[None] = loop.create_future()
            wire.greet(answer, b"CONNECT %b\r\nPING\r\n" % self._hello(info))
            await asyncio.wait((answer, wire.lost), return_when=asyncio.FIRST_COMPLETED)
            if wire.lost.done():
                raise wire.lost.result()
        except BaseException:
            wire.end(ConnectionError("not connected"))
            raise
        return wire

    def _hello(self, info: dict[str, Any]) -> bytes:
        hello: dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "lang": "python",
            "version": "tidegate",
            "name": self._name,
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            **self._login,
        }
        if self._key is not None:
            signed = self._key.sign(str(info.get("nonce", "")).encode())
            hello["sig"] = base64.b64encode(signed).decode()
            if self._jwt:
                hello["jwt"] = self._jwt
            else:
                hello["nkey"] = self._key.public_key.decode()
        return msgspec.json.encode(hello)


def unreachable(error: BaseException) -> BackplaneError:
    """Return what is raised when the server of the settings cannot be used."""
    if isinstance(error, BackplaneError):
        return error
    return BackplaneError(f"backplane.url: {reason_of(error)}")


def reason_of(error: BaseException) -> str:
    """Return why a connection failed, in a few words. It has no part of the URL's secrets."""
    return str(error).rstrip(".") or type(error).__name__


def _host(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    return parts.hostname or "", parts.port or _PORT


def _text(path: str, name: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(f"backplane.url: the file of {name} cannot be read: {reason}") from None


def _context(files: dict[str, str]) -> ssl.SSLContext | None:
    if not {"ca", "cert"} & files.keys():
        return None
    try:
        context = ssl.create_default_context(cafile=files.get("ca"))
        if "cert" in files:
            context.load_cert_chain(files["cert"], files.get("key"))
    except OSError as error:  # an SSLError is one
        reason = error.strerror or "they are not valid"
        raise ConfigError(f"backplane.url: the files of ca, cert or key: {reason}") from None
    return context


def _key(seed: str) -> Any:
    try:
        import nkeys
    except ImportError:
        problem = "creds and nkey need nkeys: pip install 'tidegate[nats]'"
        raise ConfigError(f"backplane.url: {problem}") from None
    try:
        return nkeys.from_seed(bytearray(seed.encode()))
    except Exception:  # of several libraries; none may show the seed
        raise ConfigError("backplane.url: the seed of creds or nkey is not valid") from None
