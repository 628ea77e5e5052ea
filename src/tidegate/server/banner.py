"""What the operator is told at the start: where the server listens, and what its limits are."""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.core.settings import Settings, Tier

__all__ = ["facts"]


def facts(
    settings: Settings, addresses: Iterable[tuple[str, int]], admin: tuple[str, int] | None
) -> dict[str, str]:
    """Names and values, in the order in which they are shown.

    Args:
        addresses: host and port of every listener.
        admin: host and port of the admin listener, None without one.
    """
    secure = "s" if settings.tls.certificate is not None else ""
    authorities = [_authority(*address) for address in addresses]
    told = {
        "websocket": " ".join(f"ws{secure}://{each}{settings.server.path}" for each in authorities),
        "health": " ".join(f"http{secure}://{each}/health" for each in authorities) + ", /ready",
        "admin": f"http://{_authority(*admin)}/metrics, /stats, /connections" if admin else "off",
        "limits": _limits(settings),
    }
    if settings.tiers:
        told["tiers"] = "; ".join(_tier(name, tier) for name, tier in settings.tiers.items())
    told["clients"] = _clients(settings)
    return told


def _limits(settings: Settings) -> str:
    limits, pacing = settings.limits, settings.pacing
    pace = f"{pacing.rate:,.7g} new ones a second, " if pacing.enabled else ""
    return (
        f"{limits.connections:,} connections, {pace}{limits.per_ip:,} per IP, "
        f"{limits.per_user:,} per user, {limits.per_room:,} per room, "
        f"{limits.rooms_per_connection:,} rooms per connection"
    )


def _tier(name: str, tier: Tier) -> str:
    said = []
    if tier.per_user is not None:
        said.append(f"{tier.per_user} per user")
    if tier.connections is not None:
        said.append(f"{tier.connections} connections")
    if tier.reserved:
        said.append(f"{tier.reserved:.0%} of the server reserved")
    return f"{name}: {', '.join(said) or 'the limits of all'}"


def _clients(settings: Settings) -> str:
    auth = settings.auth
    if auth.secret is None and auth.public_key is None:
        return "anonymous; tokens are not accepted"
    tokens = f"with a token ({', '.join(auth.algorithms)})"
    return f"{tokens}, or anonymous" if auth.anonymous else f"{tokens} only"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
