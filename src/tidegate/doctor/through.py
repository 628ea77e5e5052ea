"""What a proxy does with WebSockets: a few attempts through it, and one that is held."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from typing import Final

import msgspec

from tidegate.doctor.attempt import Attempt, FailedError, Target
from tidegate.doctor.facts import Through
from tidegate.wire.handshake import MAX_HEAD_BYTES

__all__ = ["look_through"]

_NATIVE: Final = "tidegate.v1.json"
_FORGED: Final = "198.51.100.77"  # an address for documentation (RFC 5737): nobody has it
_FOREIGN: Final = "https://doctor.invalid"  # a name that nobody can have (RFC 2606)
_HEADS: Final = (1024, 2048, 4096, 8000, MAX_HEAD_BYTES - 512)
_UPGRADED: Final = 101
_PINGS: Final = 5
_SECONDS: Final = 5.0

Lookup = Callable[[str], str | None]
"""The address that the server has of a connection, by the id that it told its client."""


def look_through(url: str, *, hold: float, token: str | None, lookup: Lookup) -> Through:
    """Make attempts through a proxy, and say what it does with them.

    About ten attempts, one after the other, of which one is held. Takes `hold` and some seconds.

    Args:
        url: what clients connect to.
        hold: seconds to hold a quiet connection.
        token: is shown in `Authorization` of each attempt.
        lookup: asks the server about a connection.

    Raises:
        UsageError: the URL is no WebSocket's.
    """
    target = Target(url)
    own = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        facts = _first(target, url, own, lookup)
        if facts.status != _UPGRADED or facts.reason:
            return facts
        page = _refusal(target, target.origin, own)
        foreign = _refusal(target, _FOREIGN, own)
        heads = _heads(target, own)
        held = _held(target, own, hold)
    except FailedError as error:
        return Through(url=url, error=str(error))
    return msgspec.structs.replace(
        facts,
        page_status=page[0],
        page_reason=page[1],
        foreign_status=foreign[0],
        foreign_reason=foreign[1],
        **heads,
        **held,
    )


def _first(target: Target, url: str, own: dict[str, str], lookup: Lookup) -> Through:
    """An ordinary attempt, with a claim about the client's address that nobody should believe."""
    headers = {**own, "X-Forwarded-For": _FORGED}
    attempt = Attempt(target, subprotocol=_NATIVE, headers=headers)
    try:
        if not attempt.open:
            return Through(
                url=url,
                server=attempt.server,
                status=attempt.status,
                reason=attempt.reason,
                certificate_days=_days(attempt.certificate),
            )
        native = attempt.subprotocol == _NATIVE
        message = attempt.message(_SECONDS) if native else None
        identity = _connected(message)
        times = [attempt.round_trip(_SECONDS) for _ in range(_PINGS if attempt.open else 0)]
        came = [each for each in times if each is not None]
        return Through(
            url=url,
            server=attempt.server,
            status=attempt.status,
            # A refusal for clients of our protocol is a close frame.
            reason=_refused(attempt.close_reason) if attempt.ended else "",
            subprotocol=bool(attempt.subprotocol),
            native=native,
            own_address=attempt.address,
            seen_address=(lookup(identity) or "") if identity else "",
            forged_address=_FORGED,
            round_trip=max(came) if times and len(came) == len(times) else None,
            certificate_days=_days(attempt.certificate),
        )
    finally:
        attempt.close()


def _refusal(target: Target, origin: str, own: dict[str, str]) -> tuple[int | None, str]:
    """The status and the reason for an attempt from a page; without a protocol, so it is HTTP."""
    attempt = Attempt(target, origin=origin, headers=own)
    try:
        return attempt.status, attempt.reason
    finally:
        attempt.close()


def _heads(target: Target, own: dict[str, str]) -> dict[str, int | None]:
    """Which size of a request goes through, with one long line, as a cookie is."""
    largest: int | None = None
    for size in _HEADS:
        try:
            attempt = Attempt(target, headers={**own, "X-Doctor-Padding": "x" * size})
        except FailedError:
            return {"largest_head": largest, "refused_head": size}
        try:
            if not attempt.open:
                return {
                    "largest_head": largest,
                    "refused_head": attempt.head_bytes,
                    "refused_head_status": attempt.status,
                }
            largest = attempt.head_bytes
        finally:
            attempt.close()
    return {"largest_head": largest}


def _held(target: Target, own: dict[str, str], seconds: float) -> dict[str, object]:
    """A connection on which the client says nothing."""
    attempt = Attempt(target, headers=own)
    try:
        held, silence = attempt.hold(seconds)
        return {
            "held": held,
            "cut": attempt.ended,
            "close_code": attempt.close_code,
            "pings": attempt.pings,
            "longest_silence": silence,
        }
    finally:
        attempt.close()


def _connected(message: bytes | None) -> str | None:
    """The id of the connection, as our protocol says it; None for anything else."""
    try:
        said = json.loads(message or b"")
    except (ValueError, RecursionError):
        return None
    identity = said.get("connectionId") if isinstance(said, dict) else None
    return identity if isinstance(identity, str) else None


def _refused(text: str) -> str:
    """The reason in a close frame of Tidegate, or the text of another."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return text or "closed"
    return str(said.get("error", text)) if isinstance(said, dict) else text


def _days(certificate: object) -> float | None:
    until = certificate.get("notAfter") if isinstance(certificate, dict) else None
    if not isinstance(until, str):
        return None
    return (ssl.cert_time_to_seconds(until) - time.time()) / 86_400
