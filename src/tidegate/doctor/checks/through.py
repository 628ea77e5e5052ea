"""What a proxy in front does with WebSockets (`--through`)."""

from __future__ import annotations

from typing import Final

from tidegate.addresses import parse
from tidegate.doctor import fixes
from tidegate.doctor.facts import Facts, Through
from tidegate.doctor.findings import Check, Finding, Load, Severity
from tidegate.doctor.fixes import Fix
from tidegate.text import duration

__all__ = ["CHECKS"]

_UPGRADED: Final = 101
_SLOW: Final = 1.0  # seconds
_SMALL_HEAD: Final = 8192
_SOON: Final = 14.0  # days
_TOO_LONG: Final = "headers_too_large"


def through_connect(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """No WebSocket can be opened through the proxy.

    A response with `X-Rejection-Reason` comes from Tidegate, any other from the proxy. `426
    upgrade_required` from Tidegate means that the proxy passed an ordinary request on: it dropped
    `Upgrade` and `Connection`, or speaks HTTP/1.0.
    """
    seen = facts.through
    if seen is None or (not seen.error and seen.status == _UPGRADED and not seen.reason):
        return None
    if seen.error:
        return Finding(
            Severity.ERROR,
            f"{seen.url} cannot be reached: {seen.error}",
            "Nothing listens there, a firewall is in between, or TLS does not work.",
        )
    by = "Tidegate" if seen.reason else (seen.server or "something in front")
    title = f"{by} answered {seen.status} {seen.reason}".rstrip()
    if seen.reason == "upgrade_required":
        return Finding(
            Severity.ERROR,
            f"The proxy drops Upgrade: {title}",
            "Tidegate gets an ordinary request, so no WebSocket can be opened.",
            *_proxy(
                seen,
                nginx="proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
                'proxy_set_header Connection "upgrade";',
                haproxy="mode http  # in frontend and backend, without option httpclose",
            ),
        )
    if seen.reason:
        why = "The proxy passed the attempt on, and Tidegate refused it."
        hint = "a token is asked for: --token-file FILE" if seen.reason == "unauthorized" else ""
        return Finding(
            Severity.ERROR,
            f"The attempt was refused: {title}",
            f"{why} {hint}".rstrip(),
            "tidegate explain --ip 127.0.0.1",
        )
    return Finding(
        Severity.ERROR,
        f"The attempt did not reach the server: {title}",
        "The proxy found no server that is up, knows no such path, or does not let it through.",
    )


def through_host(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The proxy does not pass on `Host`, so pages of the same host are refused.

    Tidegate compares the `Origin` of a page with `Host`. nginx sends the name of the upstream
    unless it is told otherwise.
    """
    seen = facts.through
    if seen is None or seen.page_reason != "origin":
        return None
    return Finding(
        Severity.ERROR,
        "A page of the same host is refused: 403 origin",
        "The proxy passes on another Host than the one that the browser asked for. Or list the "
        "pages in server.origins.",
        *_proxy(
            seen,
            nginx="proxy_set_header Host $http_host;",
            haproxy="# no http-request set-header Host in frontend and backend",
        ),
    )


def through_origin(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """Pages of any other site can connect.

    An attempt from `https://doctor.invalid` was admitted. Either the proxy drops `Origin`, or
    `server.origins` allows all, or the server behind does not look at it. With cookies, any site
    can then act for its visitors.
    """
    seen = facts.through
    if seen is None or seen.foreign_status != _UPGRADED:
        return None
    return Finding(
        Severity.WARNING if seen.native else Severity.NOTE,
        "A page of https://doctor.invalid may connect",
        'The proxy drops Origin, or server.origins is ["*"]: any site can open a WebSocket in the '
        "browser of your users.",
        *_proxy(
            seen,
            nginx="proxy_set_header Origin $http_origin;",
            haproxy="# no http-request del-header Origin in frontend and backend",
        ),
    )


def through_address(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The server does not see the client's address, or believes what a client claims.

    The attempt claims `X-Forwarded-For: 198.51.100.77`, and the admin API says what the server took
    for the address. See [Behind a proxy](../guide/behind-a-proxy.md).
    """
    seen = facts.through
    if seen is None or not seen.seen_address or seen.seen_address == seen.own_address:
        return None
    if seen.seen_address == seen.forged_address:
        return Finding(
            Severity.ERROR,
            f"The server believes a client that claims the address {seen.forged_address}",
            "Any client can have any address, and limits by address hold nobody. The proxy must "
            "add the address on the right, and proxies.trusted must name the proxies only.",
            *_proxy(
                seen,
                nginx="proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
                haproxy="option forwardfor  # in defaults, without if-none",
            ),
        )
    address = parse(seen.seen_address)
    if address is not None and address.is_global:
        return None  # between here and the proxy, a router gave us another address
    return Finding(
        Severity.ERROR,
        f"The server takes {seen.seen_address} for the client's address",
        f"That is not {seen.own_address}, from which the attempt came, but likely the proxy: all "
        f"clients share limits.per_ip. Name the proxy in proxies.trusted as well.",
        *_proxy(
            seen,
            nginx="proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
            haproxy="option forwardfor  # in defaults",
        ),
    )


def through_idle(facts: Facts, load: Load) -> Finding | None:
    """The proxy cuts quiet connections, or swallows heartbeats.

    A connection is held for `--hold` and says nothing. Tidegate pings it every
    `heartbeat.interval`, so a proxy whose timeout is longer never sees it idle. The doctor holds
    for five seconds longer than that, unless it is told otherwise.
    """
    seen = facts.through
    if seen is None or seen.held is None:
        return None
    if seen.cut and seen.close_code is not None:
        return Finding(
            Severity.WARNING,
            f"The connection was closed with {seen.close_code} after {duration(seen.held)}",
            "The server closed it. The reference of reasons and codes says why.",
        )
    if seen.cut:
        seconds = max(1, int(seen.longest_silence))
        timeout = int(2 * load.heartbeat) + 15
        fix = _proxy(
            seen,
            nginx=f"proxy_read_timeout {timeout}s; proxy_send_timeout {timeout}s;",
            haproxy="timeout tunnel 1h  # in defaults",
        )
        return Finding(
            Severity.ERROR,
            f"The connection was cut after {duration(seen.held)}, {duration(seen.longest_silence)} "
            f"of them silent, without a close frame",
            f"Heartbeats come every {load.heartbeat:g} s: let the proxy wait for longer, or the "
            f"server ping more often. Clients see 1006.",
            fix.fix,
            instead=fixes.setting("heartbeat.interval", max(1, seconds // 2)).fix,
        )
    if seen.native and not seen.pings and seen.held > load.heartbeat + 1:
        return Finding(
            Severity.ERROR,
            f"No ping came in {duration(seen.held)}",
            f"Tidegate pings every {load.heartbeat:g} s. The proxy keeps pings back, or answers "
            f"them itself; or heartbeat.interval of that server is longer.",
        )
    return None


def through_buffering(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The proxy keeps small frames back, or is slow.

    The slowest of five pings counts: an error where one is not answered within 5 s, a warning where
    one took longer than a second.
    """
    seen = facts.through
    if seen is None or seen.held is None:
        return None
    if seen.round_trip is not None and seen.round_trip < _SLOW:
        return None
    took = "none came" if seen.round_trip is None else f"one took {seen.round_trip:.1f} s"
    return Finding(
        Severity.ERROR if seen.round_trip is None else Severity.WARNING,
        f"Pings are not answered at once through the proxy: {took}",
        "Something collects bytes before it passes them on, or the server is overloaded.",
        *_proxy(
            seen,
            nginx="proxy_buffering off;",
            haproxy="option http-no-delay  # in defaults",
        ),
    )


def through_heads(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The proxy refuses requests with long headers, such as tokens and cookies.

    Tidegate takes a head of 16 KiB, and browsers send cookies of up to 4 KiB each. A warning where
    8 KiB do not go through.
    """
    seen = facts.through
    if seen is None or seen.refused_head is None or seen.refused_head > _SMALL_HEAD:
        return None
    status = seen.refused_head_status or "no response"
    return Finding(
        Severity.WARNING,
        f"A request of {seen.refused_head:,} bytes does not go through: {status}",
        "Clients with a long token or many cookies cannot connect, and see 1006.",
        *_proxy(
            seen,
            nginx="large_client_header_buffers 4 16k;",
            haproxy="tune.bufsize 32768  # in global",
        ),
    )


def through_certificate(facts: Facts, load: Load) -> Finding | None:  # noqa: ARG001
    """The certificate that clients see runs out within two weeks."""
    seen = facts.through
    if seen is None or seen.certificate_days is None or seen.certificate_days >= _SOON:
        return None
    return Finding(
        Severity.WARNING,
        f"The certificate is valid for {duration(seen.certificate_days * 86_400)} more",
        "After that no browser connects.",
        f"{fixes.sudo(facts)}certbot renew",
    )


CHECKS: Final[tuple[Check, ...]] = (
    *(through_connect, through_host, through_origin, through_address),
    *(through_idle, through_buffering, through_heads, through_certificate),
)


def _proxy(seen: Through, *, nginx: str, haproxy: str) -> Fix:
    """The line for the proxy that it is, or for both where it does not say."""
    if seen.server.lower().startswith("nginx"):
        return Fix(nginx)
    # HAProxy adds no header; the one seen is that of the server behind it.
    marked = haproxy if "#" in haproxy else f"{haproxy}  # in HAProxy"
    return Fix(marked, instead=f"{nginx}  # in nginx")
