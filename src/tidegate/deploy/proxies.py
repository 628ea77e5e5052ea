"""HAProxy and nginx in front of several nodes."""

from __future__ import annotations

from math import ceil
from typing import Final

from tidegate.core.codes import BREAKER, http_body
from tidegate.deploy.plan import File, Node, Plan
from tidegate.deploy.rendering import comment, render

__all__ = ["haproxy", "haproxy_in_compose", "nginx"]

_SPARE: Final = 1000  # for checks, statistics, and requests that are no WebSockets
_TABLE_ENTRY: Final = 10_000  # the least size of the table of addresses


def haproxy(plan: Plan) -> list[File]:
    """HAProxy on a machine of its own, or on that of a node."""
    # Started as root, it opens its ports and goes on as this user.
    values = {
        **_haproxy(plan),
        "user": "user haproxy\ngroup haproxy",
        "resolvers": "",
        "statistics": "127.0.0.1:8404",
    }
    return [File("haproxy.cfg", render("haproxy.cfg", values), "/etc/haproxy/haproxy.cfg")]


def haproxy_in_compose(plan: Plan) -> str:
    """The configuration of HAProxy in a container, beside the nodes."""
    values = {
        **_haproxy(plan),
        "user": "",
        "resolvers": "# Docker's names of the nodes, which may come and go.\n"
        "resolvers docker\n    nameserver dns 127.0.0.11:53\n    hold valid 5s\n\n",
        "statistics": ":8404",
    }
    values["server"] = f"{values['server']} init-addr last,libc,none resolvers docker"
    return render("haproxy.cfg", values)


def _haproxy(plan: Plan) -> dict[str, object]:
    server = []
    if plan.settings.proxies.protocol:
        server.append("send-proxy-v2 check-send-proxy")
    if plan.settings.tls.certificate:
        # Their certificate has the name that clients know, and not that of a node.
        server.append("ssl verify none")
    nodes = "\n".join(
        f"server {node.route or _name(i)} {node}" for i, node in enumerate(plan.nodes, 1)
    )
    return {
        "connections": f"{plan.connections:,}",
        "count": _count(plan),
        "trust": comment(_trust(plan, "HAProxy")),
        "maxconn": plan.all_connections + _SPARE,
        "handshake": ceil(plan.settings.server.handshake_timeout),
        "silence": plan.silence,
        **_haproxy_idle(plan),
        **_haproxy_agent(plan),
        "route": _HAPROXY_ROUTE if plan.routed else "",
        "interval": f"{plan.settings.heartbeat.interval:g}",
        "bind": _haproxy_bind(plan),
        "forward": _haproxy_forward(plan),
        "stick": _haproxy_stick(plan),
        **_nobody(),
        "server": "".join(f" {option}" for option in server),
        "nodes": nodes,
    }


def _haproxy_idle(plan: Plan) -> dict[str, object]:
    if plan.settings.server.sse:
        return {
            "idle_why": "A stream of events (server.sse) is a response that goes on, with a\n"
            "    # comment every heartbeat.interval; so this is as long as that of WebSockets.",
            "idle": plan.silence,
        }
    return {
        "idle_why": "Until a request is answered. Decisions of a node may take a while.",
        "idle": 30,
    }


def _haproxy_stick(plan: Plan) -> str:
    if plan.settings.server.sse:
        why = "what is posted reaches the node of its stream of events (server.sse)"
    elif plan.spans:
        return "# Limits hold over all nodes (fleet.limits): an address may be on any of them."
    else:
        why = "limits.per_ip is exact"
    prefix = plan.settings.limits.ipv6_prefix
    return (
        f"# All connections of an address to one node, so that\n# {why}.\n"
        f"# Addresses count as Tidegate counts them: IPv6 by its /{prefix} (limits.ipv6_prefix).\n"
        f"stick-table type ipv6 size {max(_TABLE_ENTRY, plan.all_connections)} expire 30m\n"
        f"stick on src,ipmask(32,{prefix})"
    )


_HAPROXY_ROUTE: Final = """\
# A client comes back to its node, by the name that `connected` had (server.route), while that node
# takes connections. The names of the servers below are those.
use-server %[url_param(route)] if { url_param(route) -m found }"""


def _haproxy_agent(plan: Plan) -> dict[str, object]:
    agent = plan.settings.agent_check
    if not agent.enabled:
        return {
            "agent": "# With agent_check.enabled, nodes also say how much they should get.",
            "to_ready": "use_backend ready if { nbsrv(ready) gt 0 }",
        }
    return {
        "agent": "# Each node says how much it should get, by its pressure, and how many\n"
        "# connections it may have (agent_check). One that does not answer keeps what it said.\n"
        "# weight: HAProxy rounds its percentages down to whole numbers, so 1 would soon be 0.\n"
        f"default-server weight 100 agent-check agent-port {agent.port} agent-inter 1s",
        "to_ready": "# HAProxy counts too: a node is full at once, and not with its next check.\n"
        "use_backend ready if { nbsrv(ready) gt 0 } !{ be_conn_free(ready) eq 0 }",
    }


def _haproxy_bind(plan: Plan) -> str:
    if not plan.tls:
        return "bind :80\n# `tidegate deploy haproxy --tls /etc/haproxy/chat.pem` adds TLS."
    return (
        "bind :80\n"
        "# One file with the certificate, its chain and the key. HTTP/1.1 alone: WebSockets over\n"
        "# HTTP/2 (RFC 8441) are not spoken by the nodes.\n"
        f"bind :443 ssl crt {plan.tls} alpn http/1.1 ssl-min-ver TLSv1.2\n"
        "http-request redirect scheme https code 308 unless { ssl_fc }"
    )


def _haproxy_forward(plan: Plan) -> str:
    proxies = plan.settings.proxies
    if proxies.protocol:
        return "# The client's address goes in front of each connection: send-proxy-v2 below."
    if proxies.header == "forwarded":
        return (
            "# RFC 7239. What clients claim is deleted; an IPv6 address has brackets and quotes.\n"
            "http-request set-header Forwarded for=%[src] unless { src -m sub : }\n"
            'http-request set-header Forwarded for=\\"[%[src]]\\" if { src -m sub : }'
        )
    return "# Adds the client's address on the right: the nodes read from there.\noption forwardfor"


def nginx(plan: Plan) -> list[File]:
    """nginx; with the PROXY protocol it passes TCP on, else it speaks HTTP."""
    settings = plan.settings
    stream = settings.proxies.protocol
    scheme = "https" if settings.tls.certificate else "http"
    values = {
        "connections": f"{plan.connections:,}",
        "count": _count(plan),
        "trust": comment(_trust(plan, "nginx")),
        "refuse": comment(_NO_IN_BAND) if settings.server.refuse == "in-band" else "",
        "descriptors": 2 * plan.all_connections + _SPARE,
        "workers": 2 * plan.all_connections + _SPARE,
        "backlog": max(4096, plan.backlog),
        "handshake": ceil(settings.server.handshake_timeout),
        "silence": plan.silence,
        "interval": f"{settings.heartbeat.interval:g}",
        "listen": _nginx_listen(plan),
        "forward": _nginx_forward(plan),
        "balance": _BY_ADDRESS if settings.server.sse else _BY_COUNT,
        "upstream": "$tidegate_node" if plan.routed else "tidegate",
        "routes": _nginx_routes(plan) if plan.routed else "",
        # Its own node, and two others; there may be thousands.
        "tries": min(3, max(2, len(plan.nodes))),
        **_nobody(),
        "scheme": scheme,
        "tls_to_nodes": "proxy_ssl on;" if settings.tls.certificate else "",
        "nodes": "\n".join(
            (f"server {node}" if stream else _nginx_server(node)) + ";" for node in plan.nodes
        ),
    }
    text = render("nginx-stream.conf" if stream else "nginx.conf", values)
    return [File("nginx.conf", text, "/etc/nginx/nginx.conf")]


def _nginx_routes(plan: Plan) -> str:
    """Where a client goes that comes back with a route: to its node, or to the others."""
    lines = [
        "# A client comes back to its node, by the name that `connected` had (server.route). Where",
        "# that is down, full or drains, the others serve it.",
        "map $arg_route $tidegate_node {",
        "    default tidegate;",
    ]
    for node in plan.nodes:
        escape = "\\" if node.route in _MAP_WORDS else ""
        lines.append(f"    {escape}{node.route} tidegate_{node.route};")
    lines.append("}")
    for node in plan.nodes:
        others = (f"    {_nginx_server(other)} backup;" for other in plan.nodes if other != node)
        lines += [
            f"upstream tidegate_{node.route} {{",
            f"    zone tidegate_{node.route} 64k;",
            "    least_conn;",
            f"    {_nginx_server(node)};",
            *others,
            "}",
        ]
    return "\n".join(lines)


# They mean something else in a map of nginx, unless a backslash is in front.
_MAP_WORDS: Final = ("default", "hostnames", "include", "volatile")


def _nginx_server(node: Node) -> str:
    return f"server {node} max_fails=3 fail_timeout=2s"


_BY_COUNT: Final = """\
# WebSockets last: count those that are open, not requests.
least_conn;
# To keep all connections of an address on one node, so that limits.per_ip is exact, put
# this in the place of least_conn. nginx cannot do both.
# hash $remote_addr consistent;"""

_BY_ADDRESS: Final = """\
# What is posted must reach the node of its stream of events (server.sse), so all
# connections of an address go to one node.
hash $remote_addr consistent;"""

_NO_IN_BAND: Final = """\
Set server.refuse = "http" on the nodes. nginx has no health checks: it goes by the 503 that a full
or draining node answers with, and asks the next one. Refusals by a close frame (server.refuse =
"in-band", as it is now) come after the 101, and nginx takes them for success."""


def _nginx_listen(plan: Plan) -> str:
    backlog = max(4096, plan.backlog)
    if not plan.tls:
        return f"listen 80 backlog={backlog};"
    stream = plan.settings.proxies.protocol
    return (
        f"listen 443 ssl backlog={backlog};\n"
        f"ssl_certificate {plan.tls};\n"
        f"ssl_certificate_key {plan.tls};\n"
        "ssl_protocols TLSv1.2 TLSv1.3;\n"
        "# A client that is back within an hour resumes its session, which costs a tenth. 20 MB\n"
        "# are 80,000 sessions.\n"
        f"ssl_session_cache shared:{'stream' if stream else 'tls'}:20m;\n"
        "ssl_session_timeout 1h;"
    )


def _nginx_forward(plan: Plan) -> str:
    if plan.settings.proxies.header == "forwarded":
        return "proxy_set_header Forwarded $forwarded_for;"
    return "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"


def _nobody() -> dict[str, object]:
    """What a proxy answers when there is no node: the same as a node would."""
    return {
        "nobody": BREAKER.status,
        "nobody_reason": BREAKER.name,
        "nobody_delay": BREAKER.retry_after,
        "nobody_body": http_body(BREAKER, BREAKER.retry_after).decode(),
    }


def _trust(plan: Plan, proxy: str) -> str:
    """Which of our settings this file goes with."""
    proxies = plan.settings.proxies
    way = "the PROXY protocol" if proxies.protocol else f"the header {proxies.header}"
    if proxies.trusted:
        networks = ", ".join(proxies.trusted)
        return (
            f"{proxy} names the client's address by {way}. The nodes believe it from\n"
            f"{networks} (proxies.trusted): {proxy} must connect from there."
        )
    return (
        f"{proxy} names the client's address by {way}, and the nodes believe it from nobody yet:\n"
        f'set proxies.trusted = ["the address of {proxy}"] there, or all clients count as one.'
    )


def _count(plan: Plan) -> str:
    return f"{len(plan.nodes)} nodes" if len(plan.nodes) > 1 else "one node"


def _name(number: int) -> str:
    return f"node{number}"
