"""What the admin API says about the gate: how it would decide, and whom it refused."""

from __future__ import annotations

import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from tidegate.core.admission.admission import outcome
from tidegate.core.admission.attempt import Attempt, Identity
from tidegate.core.settings.fields import shown
from tidegate.node.auth import MAX_PRIORITY

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

    from tidegate.node.server import Server

__all__ = ["explanation", "last_refusals", "parsed_address"]

_PARAMETERS = ("ip", "user", "tier", "priority")


def explanation(node: Server, params: QueryParams) -> dict[str, object]:
    """What the gate would say of an attempt now: the outcome and every step.

    The attempt comes from the address `ip` and is of the `user`, `tier` and `priority`, or
    anonymous. Nothing is taken.
    """
    given: dict[str, str] = {}
    for name, value in params.multi_items():
        if name not in _PARAMETERS:
            raise HTTPException(
                400, f"unknown parameter {shown(name)}; there are {', '.join(_PARAMETERS)}"
            )
        if name in given:
            raise HTTPException(400, f"{name}: given twice")
        given[name] = value
    address = parsed_address(given.get("ip", "127.0.0.1"))
    who = Identity(given.get("user"), given.get("tier"), _priority(given.get("priority", "0")))
    # Whoever is named is taken to have a token that says so.
    attempt = Attempt(address, node.settings.server.path, who)
    steps = node.admission.explain(attempt, time.monotonic())
    return {
        "outcome": outcome(steps),
        "by": next((step.name for step in steps if not step.passed), None),
        "attempt": {
            "ip": address,
            "user": who.user,
            "tier": who.tier,
            "priority": who.priority,
        },
        "steps": [
            {
                "name": step.name,
                "passed": step.passed,
                "detail": step.detail,
                "numbers": dict(step.numbers),
            }
            for step in steps
        ],
    }


def last_refusals(node: Server) -> dict[str, Any]:
    """The last refusals of valid attempts, the newest first, with why."""
    return {
        "refusals": [
            {
                "at": round(refusal.at, 3),
                "ip": refusal.address,
                "user": refusal.user,
                "tier": refusal.tier,
                "reason": refusal.reason.name,
                "message": refusal.reason.message,
                "retryAfter": refusal.retry_after,
                "limit": refusal.limit,
            }
            for refusal in reversed(node.gate.refusals)
        ]
    }


def parsed_address(text: str) -> str:
    """An IP address in the form in which connections are counted; HTTPException 400 if none."""
    try:
        address = ip_address(text)
    except ValueError:
        raise HTTPException(400, f"ip: {shown(text)} is not an IP address") from None
    return str(getattr(address, "ipv4_mapped", None) or address)


def _priority(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 4 and int(text) <= MAX_PRIORITY:
        return int(text)
    raise HTTPException(
        400, f"priority: {shown(text)} is not a whole number from 0 to {MAX_PRIORITY}"
    )
