"""Prometheus: what to scrape, and the alerts."""

from __future__ import annotations

import json

from tidegate.addresses import authority
from tidegate.deploy.plan import File, Plan
from tidegate.deploy.rendering import render

__all__ = ["PAGE", "prometheus", "rules", "scrape"]

PAGE = "docs/guide/monitoring.md"
"""The page of the documentation that says what to do about each alert."""

_RULES = "tidegate.rules.yml"


def prometheus(plan: Plan) -> list[File]:
    """What Prometheus scrapes, and its alerts."""
    admin = plan.settings.admin
    two = [f"{plan.two_admin_ports}{number}" for number in (1, 2)]
    targets = "\n".join(
        f"- labels: {{node: {json.dumps(str(node))}}}\n"
        f"  targets: {json.dumps([authority(node.host, admin.port)])}\n"
        f"  # targets: {json.dumps([authority(node.host, int(port)) for port in two])}"
        for node in plan.nodes
    )
    token = "/etc/prometheus/tidegate-token" if admin.token else ""
    folder = "/etc/prometheus"
    return [
        File("prometheus.yml", scrape(targets, token), f"{folder}/prometheus.yml"),
        File(_RULES, rules(plan), f"{folder}/{_RULES}"),
    ]


def scrape(targets: str, token_file: str, others: str = "") -> str:
    """The configuration of Prometheus.

    Args:
        targets: the admin listeners of the nodes, as YAML.
        token_file: the file with `admin.token`; empty where there is none.
        others: more jobs, as YAML.
    """
    authorization = (
        "# A file with admin.token in it, and nothing else.\n"
        f"authorization:\n  credentials_file: {token_file}"
        if token_file
        else ""
    )
    values = {
        "targets": targets,
        "authorization": authorization,
        "rules": _RULES,
        "others": others,
    }
    return render("prometheus.yml", values)


def rules(plan: Plan) -> str:
    """The alert rules."""
    beat, waiting = plan.settings.heartbeat, plan.settings.waiting_room
    values = {
        "page": PAGE,
        "queue": max(1, waiting.size // 2),
        # A quarter of the time after which a connection counts as dead.
        "heartbeat": f"{beat.timeout / 4:g}",
        "tls": f"{plan.settings.server.handshake_timeout / 4:g}",
        "connections": f"{plan.connections:,}",
    }
    return render(_RULES, values)
