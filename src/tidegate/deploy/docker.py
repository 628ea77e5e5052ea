"""An image, and a Compose file with HAProxy, Prometheus and Grafana."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tidegate.core.settings import TlsSettings
from tidegate.deploy.grafana import dashboard
from tidegate.deploy.plan import File, Node, Plan, variable
from tidegate.deploy.prometheus import rules, scrape
from tidegate.deploy.proxies import haproxy_in_compose
from tidegate.deploy.rendering import render

__all__ = ["docker", "dockerfile", "dockerfile_from_source"]

# It has no data that another container may see, and is in a network of its own with the nodes.
_VALKEY: Final = "redis://valkey:6379"
# Of the network between proxy and nodes: they trust the client's address from here.
_SUBNET: Final = "172.30.97.0/24"
_TOKEN_FILE: Final = "/run/secrets/admin_token"  # noqa: S105 - a path
_HAPROXY_JOB: Final = """\
- job_name: haproxy
  static_configs:
    - targets: ["haproxy:8404"]"""


def docker(plan: Plan) -> list[File]:
    """An image, and two nodes of it or more with all that stands around them.

    Unless `backplane.url` says where another one is, there is a Valkey between the nodes.
    """
    settings = plan.settings
    # TLS ends at the proxy here, and the nodes have names of their own.
    trusted = (*settings.proxies.trusted, _SUBNET)
    proxies = replace(settings.proxies, trusted=trusted)
    inside = replace(
        settings,
        tls=TlsSettings(),
        proxies=proxies,
        agent_check=replace(settings.agent_check, enabled=True),
    )
    count = max(2, len(plan.nodes))
    names = [f"tidegate-{i}" for i in range(1, count + 1)]
    nodes = tuple(Node(name, settings.server.port, name) for name in names)
    own = replace(
        plan,
        settings=inside,
        nodes=nodes,
        tls="/etc/haproxy/tls.pem" if plan.tls else "",
        valkey=settings.backplane.url is None,
    )
    targets = "\n".join(f'- targets: ["{node.host}:{settings.admin.port}"]' for node in nodes)
    files = {
        "Dockerfile": dockerfile(plan),
        "compose.yml": _compose(own, plan.tls),
        ".env.example": _environment_file(own),
        "haproxy.cfg": haproxy_in_compose(own),
        "prometheus/prometheus.yml": scrape(targets, _TOKEN_FILE, _HAPROXY_JOB),
        "prometheus/tidegate.rules.yml": rules(own),
        "grafana/dashboards/tidegate.json": dashboard(),
        "grafana/provisioning/dashboards/tidegate.yml": render("grafana-dashboards.yml", {}),
        "grafana/provisioning/datasources/prometheus.yml": render("grafana-source.yml", {}),
    }
    return [File(name, text) for name, text in files.items()]


def dockerfile(plan: Plan) -> str:
    """The Dockerfile of an image with a released version."""
    usage = "# Written by `tidegate deploy docker`.\n#     docker build -t tidegate ."
    return _dockerfile(plan, usage, "", f"'tidegate[serve,crypto,workers]=={plan.version}'")


def dockerfile_from_source(plan: Plan) -> str:
    """The Dockerfile of this repository: the same, with the source beside it."""
    usage = (
        "# Written by tools/generate.py from the template of `tidegate deploy docker`.\n"
        "#     docker build -t tidegate . && docker run --rm -p 127.0.0.1:8000:8000 tidegate"
    )
    copies = "WORKDIR /src\nCOPY pyproject.toml README.md LICENSE ./\nCOPY src src"
    return _dockerfile(plan, usage, copies, "'.[serve,crypto,workers]'")


def _dockerfile(plan: Plan, usage: str, copies: str, package: str) -> str:
    admin, server = plan.settings.admin, plan.settings.server
    # The admin listener speaks plain HTTP whatever clients do: TLS, or the PROXY protocol.
    port = admin.port if admin.enabled else server.port
    values = {
        "usage": usage,
        "copies": copies,
        "package": package,
        "port": server.port,
        "health": f"http://127.0.0.1:{port}/health",
        "stop": plan.drain_seconds,
        "descriptors": plan.descriptors,
    }
    return render("Dockerfile", values)


def _compose(plan: Plan, tls: str) -> str:
    trusted = ",".join(plan.settings.proxies.trusted)
    variables = {
        variable("limits.connections"): str(plan.limit),
        **dict(plan.changed),
        variable("server.host"): "0.0.0.0",
        variable("server.port"): str(plan.settings.server.port),
        variable("admin.host"): "0.0.0.0",
        variable("admin.port"): str(plan.settings.admin.port),
        variable("agent_check.host"): "0.0.0.0",
        variable("agent_check.port"): str(plan.settings.agent_check.port),
        variable("proxies.trusted"): trusted,
        variable("log.format"): "json",
    }
    own = plan.valkey
    if own:
        variables[variable("backplane.url")] = _VALKEY
    lines = [f"{name}: {_quoted(value)}" for name, value in variables.items()]
    lines += [f"{variable(name)}: ${{{variable(name)}:?see .env.example}}" for name in plan.secrets]
    values = {
        "connections": f"{plan.connections:,}",
        "environment": "\n".join(lines),
        "descriptors": plan.descriptors,
        "proxy_descriptors": 2 * plan.all_connections + 4096,
        "backlog": max(4096, plan.backlog),
        "memory": plan.memory,
        "stop": plan.drain_seconds,
        "subnet": _SUBNET,
        "route": variable("server.route"),
        "first": plan.nodes[0].host,
        "nodes": "\n".join(_node(node) for node in plan.nodes[1:]),
        "networks": "front, back, monitoring" if own else "front, monitoring",
        # Workers and their supervisor meet in a folder.
        "temporary": "tmpfs: [/tmp]" if plan.settings.server.workers != 1 else "",
        "needs": "depends_on: [valkey]" if own else "",
        "valkey": _VALKEY_SERVICE if own else "",
        "back": _BACK if own else "",
        "valkey_volume": "valkey:" if own else "",
        "depends": "\n".join(f"- {node.host}" for node in plan.nodes),
        "ports": '- "80:80"' + ('\n- "443:443"' if tls else ""),
        "tls": f"- {_quoted(f'{tls}:/etc/haproxy/tls.pem:ro')}" if tls else "",
    }
    return render("compose.yml", values)


def _node(node: Node) -> str:
    """The service of one more node."""
    return (
        f"{node.host}:\n"
        "  <<: *node\n"
        "  environment:\n"
        "    <<: *environment\n"
        f"    {variable('server.route')}: {node.route}"
    )


_VALKEY_SERVICE: Final = """\
# What the nodes share: rooms, presence, sessions. Its file keeps histories over a restart.
valkey:
  image: valkey/valkey:9.1
  restart: unless-stopped
  command: [valkey-server, --save, "", --appendonly, "yes"]
  healthcheck:
    test: [CMD, valkey-cli, ping]
    interval: 5s
    timeout: 2s
  volumes:
    - valkey:/data
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  user: "999:999"
  networks: [back]
"""

_BACK: Final = """\
# Only the nodes reach the Valkey, which asks nobody for a password.
back:
  internal: true"""


def _environment_file(plan: Plan) -> str:
    lines = [f"{variable(name)}=" for name in plan.secrets]
    return render("env.example", {"secrets": "\n".join(lines)})


def _quoted(text: str) -> str:
    """A text for YAML in which Compose replaces nothing."""
    return "'" + text.replace("'", "''").replace("$", "$$") + "'"
