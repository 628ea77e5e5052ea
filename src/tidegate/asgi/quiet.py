"""Keep uvicorn's log free of a line for each attempt that was refused.

uvicorn (0.54) logs "ASGI callable returned without completing handshake" as an error after every
refusal by `websocket.http.response`, which is no error. An attack would fill the log with it.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

__all__ = ["after_a_refusal"]

_refused: ContextVar[bool] = ContextVar("tidegate_refused", default=False)
_logger = logging.getLogger("uvicorn.error")


class _Filter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not (_refused.get() and str(record.msg).startswith("ASGI callable returned without"))


_filter = _Filter()


def after_a_refusal() -> None:
    """The task of this server's connection has refused it, and says nothing more of that."""
    _refused.set(True)
    _logger.addFilter(_filter)  # once: adding it again does nothing
