"""Tickets: a position in the waiting room that the client carries itself.

A client that cannot wait on an open connection is sent away with a ticket, and comes back with it.
Nothing is stored for it, so any node that has the secret knows the position.

    "1." + base64url( priority | arrived | expires | nonce | MAC )
                      4 bytes    8         8         12      16

The MAC is HMAC-SHA256 (RFC 2104), cut to its first half as section 5 there allows. It also covers
the client that the ticket is for, which is not in the text: a ticket gives no address or user away,
and is worth nothing to another client.
"""

from __future__ import annotations

import base64
import hmac
import re
import struct
from collections import OrderedDict
from typing import Final, NamedTuple

from tidegate.errors import UsageError

__all__ = ["NONCE_BYTES", "Spent", "Ticket", "check", "issue"]

NONCE_BYTES: Final = 12
"""The length of a nonce: no two random ones of 96 bits are the same."""

_MAC_BYTES: Final = 16
_FIELDS: Final = struct.Struct(f">idd{NONCE_BYTES}s")
_VERSION: Final = "1."
# 48 bytes are 64 characters exactly, so that a ticket has only one text.
_FORM: Final = re.compile(r"1\.[A-Za-z0-9_-]{64}")
# The same secret may sign other things elsewhere; this text makes it a ticket.
_PURPOSE: Final = b"tidegate queue ticket 1\0"


class Ticket(NamedTuple):
    """A position in the waiting room. `arrived` and `expires` are in Unix seconds.

    `nonce` is this ticket's own, so it can be the key of its position.
    """

    priority: int
    arrived: float
    expires: float
    nonce: bytes


def issue(
    secret: bytes, *, bound: str, priority: int, arrived: float, expires: float, nonce: bytes
) -> str:
    """Return the text of a ticket: 66 characters, safe in URLs, headers and cookies.

    Args:
        secret: the key; every node that shares it takes the ticket.
        bound: the client that it is for, such as "user:ann" or "ip:192.0.2.1"; no other can use it.
        priority: within 32 bits.
        arrived: when the client came first, in Unix seconds.
        expires: when the ticket ends, in Unix seconds.
        nonce: `NONCE_BYTES` random bytes; the same again when a position gets a new expiry.

    Raises:
        UsageError: the nonce has another length.
    """
    if len(nonce) != NONCE_BYTES:
        raise UsageError(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    fields = _FIELDS.pack(priority, arrived, expires, nonce)
    return _VERSION + base64.urlsafe_b64encode(fields + _mac(secret, fields, bound)).decode()


def check(secret: bytes, ticket: str, bound: str, now: float) -> Ticket | None:
    """Return what a ticket says; None when it is not valid, not for `bound`, or expired at `now`.

    `now` is in Unix seconds. `ticket` may be any text at all, as it comes from a peer.
    """
    if not _FORM.fullmatch(ticket):
        return None
    packed = base64.urlsafe_b64decode(ticket[len(_VERSION) :])
    fields, mac = packed[:-_MAC_BYTES], packed[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, fields, bound)):
        return None
    found = Ticket._make(_FIELDS.unpack(fields))
    return found if now < found.expires else None


def _mac(secret: bytes, fields: bytes, bound: str) -> bytes:
    # A user's name comes from JSON, which can spell half a surrogate pair.
    message = _PURPOSE + fields + bound.encode("utf-8", "surrogatepass")
    return hmac.digest(secret, message, "sha256")[:_MAC_BYTES]


class Spent:
    """The tickets that were used up, so that one ticket does not admit many connections.

    It remembers the last `most` of them by their nonces. That is for this node only; on others the
    limits by address and by user still hold.
    """

    __slots__ = ("_most", "_nonces")

    def __init__(self, most: int) -> None:
        self._most = most
        self._nonces: OrderedDict[bytes, None] = OrderedDict()

    def spend(self, nonce: bytes) -> bool:
        """Use up a ticket when its client is admitted; False when it was used before."""
        if nonce in self._nonces:
            return False
        self._nonces[nonce] = None
        if len(self._nonces) > self._most:
            self._nonces.popitem(last=False)
        return True

    def __contains__(self, nonce: bytes) -> bool:
        return nonce in self._nonces
