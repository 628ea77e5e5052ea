"""Names of rooms as parts of NATS subjects.

A subject is made of tokens with dots between them; `*` and `>` stand for any, and no token has a
space. A room may have any name. So what is no letter, digit, `-` or `_` becomes `=` and two
hexadecimal digits for each byte, as in quoted-printable: every room has a token of its own, and no
name reaches another one's.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote_from_bytes

__all__ = ["token"]

_PLAIN: Final = re.compile("[A-Za-z0-9_-]+")


def token(name: str) -> str:
    """Return a name as one token of a subject. HOT."""
    if _PLAIN.fullmatch(name):
        return name
    if not name:
        return "="
    # `quote` leaves letters, digits and "_.-~" as they are, and writes % before the digits.
    quoted = quote_from_bytes(name.encode("utf-8", "surrogatepass"), safe="")
    return quoted.replace(".", "=2E").replace("~", "=7E").replace("%", "=")
