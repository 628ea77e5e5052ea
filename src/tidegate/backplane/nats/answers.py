"""What JetStream answers to what is published, and to the question for a message."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["NO_MESSAGE", "NO_STREAM", "WRONG_LAST", "Said", "Stored", "read_answer"]

NO_MESSAGE: Final = 10037
"""There is no message of this subject."""
NO_STREAM: Final = 10059
WRONG_LAST: Final = (10071, 10164)
"""The last message of the subject is another one than was expected."""


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class Stored(msgspec.Struct):
    """A message of a stream."""

    seq: int
    data: bytes = b""  # in base64, which msgspec decodes


class Said(msgspec.Struct):
    """An answer."""

    error: _Error | None = None
    seq: int = 0
    message: Stored | None = None


read_answer = msgspec.json.Decoder(Said).decode
