"""Where `listen` and `say` connect, and as which user."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from tidegate.addresses import authority, unbracketed, unix_path
from tidegate.cli.options import load_settings, read_token
from tidegate.core.settings import Settings
from tidegate.errors import TidegateError, UsageError
from tidegate.server.environment import TOKEN_VARIABLE, URL_VARIABLE

if TYPE_CHECKING:
    from tidegate.client import Client, Loss

__all__ = ["FailedError", "ServerUrl", "TokenFile", "client_of", "open_client"]

ServerUrl = Annotated[
    str | None,
    Parameter(
        name="--url",
        metavar="URL",
        help="Where WebSockets are opened, as in wss://chat.example.com/ws. "
        f"[default: {URL_VARIABLE}, or the server of the settings]",
    ),
]
TokenFile = Annotated[
    Path | None,
    Parameter(
        name="--token-file",
        metavar="FILE",
        allow_leading_hyphen=True,
        help="File with the user's token; - is standard input. It is read again when the token is "
        f"about to expire. [default: {TOKEN_VARIABLE}; without one the client is anonymous]",
    ),
]

# To connect to all addresses of a machine works on Linux only.
_UNSPECIFIED: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class FailedError(TidegateError):
    """A command cannot do what it should with the server."""


def client_of(url: str | None, token_file: Path | None, config: Path | None) -> Client:
    """A client of the server that is meant.

    Raises:
        UsageError: the URL or the token file is not one.
    """
    from tidegate.client import Client

    option = "--url" if url else URL_VARIABLE
    where = url or os.environ.get(URL_VARIABLE, "").strip()
    if not where:
        option, where = "server.host", _url_of(load_settings(config).settings)
    try:
        return Client(where, token=_token(token_file))
    except ValueError as error:
        raise UsageError(f"{option}: {str(error).removeprefix('url: ')}") from None


async def open_client(client: Client) -> None:
    """Connect, and wait until the connection is ready.

    A server that is not there at the first attempt is an error; one that says when to come back, or
    has a waiting room, is obeyed.

    Raises:
        FailedError: nothing answers there, or the server does not want this client.
    """
    from tidegate.client import ClientClosed, State, StateChange

    changes = client.events(StateChange)
    client.start()
    try:
        async for change in changes:
            if change.state is State.OPEN:
                return
            loss = change.loss
            if change.state is State.BACKOFF and loss is not None and _is_silence(loss):
                raise FailedError(f"cannot connect: {loss.detail or loss}")
    except ClientClosed as closed:
        raise FailedError(f"the server refuses the connection: {closed.loss}") from None


def _is_silence(loss: Loss) -> bool:
    """Whether nobody has refused the connection: there was no answer, or one that is none."""
    return loss.code == type(loss)().code and loss.status is None


def _token(file: Path | None) -> str | Callable[[], str] | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    token = read_token(file)
    return token if str(file) == "-" else lambda: read_token(file)


def _url_of(settings: Settings) -> str:
    """Where the server with these settings is, as this machine reaches it."""
    server = settings.server
    host = next((host for host in server.host if unix_path(host) is None), None)
    if host is None:
        raise UsageError(
            f"--url is missing ({URL_VARIABLE}): the server of the settings has no port"
        )
    host = unbracketed(host)
    scheme = "wss" if settings.tls.certificate is not None else "ws"
    return f"{scheme}://{authority(_UNSPECIFIED.get(host, host), server.port)}{server.path}"
