"""What a client raises."""

from __future__ import annotations

from tidegate.client.retry import Loss
from tidegate.errors import TidegateError

__all__ = ["ClientClosed", "ClientError"]


class ClientError(TidegateError):
    """Why a request failed, or why a loop over messages ended.

    Attributes:
        code: a name of the server's table of errors, such as "not_allowed", or one of the client's
            own: `timeout`, `closed`, `connection_lost` (the request may have been carried out),
            `queue_full`, `dropped`, `too_big`, `bad_message`, `left`, `overflow`, `token_failed`,
            `unsupported`.
        text: the same for people.
        retry_after: seconds after which the same may succeed, where the server said so.
    """

    def __init__(self, code: str, text: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.retry_after = retry_after


class ClientClosed(ClientError):  # noqa: N818 - it is what happened
    """The client is closed, by a call of `close` or because the server does not want it back.

    Attributes:
        loss: why, where the server or a wrong setting closed it; None after `close`.
    """

    def __init__(self, loss: Loss | None = None) -> None:
        super().__init__("closed", "The client is closed" + (f" ({loss})" if loss else ""))
        self.loss = loss
