"""What the operator is told at the start: where the server listens, and what its limits are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from tidegate.addresses import authority, unix_path
from tidegate.core.settings import Settings, Tier
from tidegate.server.config_text import in_force
from tidegate.wire.formats import FORMATS, PROTOBUF_V1

if TYPE_CHECKING:
    from tidegate.server.config import Loaded

__all__ = ["Origin", "facts", "origin"]


def facts(
    settings: Settings,
    addresses: Iterable[tuple[str, int]],
    admin: Iterable[tuple[str, int]],
    application: str | None = None,
    agents: Iterable[tuple[str, int]] = (),
) -> dict[str, str]:
    """Names and values, in the order in which they are shown.

    Args:
        addresses: host and port of every listener.
        admin: the same of the admin API; empty without one.
        application: the name of the ASGI application that is served, None without one.
        agents: host and port of every listener for HAProxy's agent-check.
    """
    secure = "s" if settings.tls.certificate is not None else ""
    public = list(addresses)
    operators = _urls("http", admin, "/metrics")
    if application is None:
        told = {
            "websocket": _urls(f"ws{secure}", public, settings.server.path),
            "protocols": _protocols(),
            "health": f"{_urls(f'http{secure}', public, '/health')}, /ready",
        }
    else:
        told = {"serves": f"{application} on {_urls(f'http{secure}', public, '')}"}
    told["admin"] = f"{operators}, /stats, /connections" if operators else "off"
    if operators and settings.admin.dashboard:
        told["dashboard"] = _urls("http", admin, "/")
        if application is None:
            told["try"] = _urls("http", admin, "/try")
    asked = ", ".join(
        host if unix_path(host) is not None else authority(host, port) for host, port in agents
    )
    if asked:
        told["agent"] = f"{asked}, for HAProxy"
    told["limits"] = _limits(settings)
    if settings.tiers:
        told["tiers"] = "; ".join(_tier(name, tier) for name, tier in settings.tiers.items())
    told["clients"] = _clients(settings)
    return told


class Origin(NamedTuple):
    """Where the settings come from: in the words of the banner, and one by one by full name."""

    told: Mapping[str, str] = MappingProxyType({})
    sources: Mapping[str, str] = MappingProxyType({})


def origin(loaded: Loaded) -> Origin:
    """Where the settings come from, and which variables are none although they begin as ours."""
    told = {"settings": in_force(loaded)}
    if loaded.injected:
        told["ignored"] = f"{', '.join(loaded.injected)} (of Kubernetes or Docker)"
    return Origin(told, loaded.sources)


def _protocols() -> str:
    known = ", ".join(FORMATS)
    missing = f"; {PROTOBUF_V1} needs tidegate[protobuf]"
    return known if PROTOBUF_V1 in FORMATS else known + missing


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
    if not auth.has_keys:
        return "anonymous; tokens are not accepted"
    algorithms = [] if auth.secret is None and auth.public_key is None else [*auth.algorithms]
    algorithms += [key.algorithm for key in auth.keys]
    algorithms += [name for issuer in auth.issuers for name in issuer.algorithms]
    tokens = f"with a token ({', '.join(dict.fromkeys(algorithms))})"
    return f"{tokens}, or anonymous" if auth.anonymous else f"{tokens} only"


def _urls(scheme: str, addresses: Iterable[tuple[str, int]], path: str) -> str:
    """The URL at each address. A Unix socket has none: what is asked there follows its address."""
    return " ".join(
        f"{host} {path}".rstrip()
        if unix_path(host) is not None
        else f"{scheme}://{authority(host, port)}{path}"
        for host, port in addresses
    )
