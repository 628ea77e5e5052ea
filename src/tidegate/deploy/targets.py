"""The table of what can be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from tidegate.deploy import docker, grafana, host, kubernetes, notes, prometheus, proxies
from tidegate.deploy.plan import File, Plan

__all__ = ["TARGETS", "Target"]


class Target(NamedTuple):
    """One kind of configuration.

    Attributes:
        text: what it is, in one sentence.
        files: writes it.
        notes: each says what somebody must make right beside the files, or nothing.
        then: the commands that make it take effect, where files have their place on a machine.
    """

    text: str
    files: Callable[[Plan], list[File]]
    notes: tuple[Callable[[Plan], str], ...] = ()
    then: tuple[str, ...] = ()


TARGETS: Final[Mapping[str, Target]] = {
    "sysctl": Target(
        "Kernel settings: queues, ports, connection tracking.",
        host.sysctl,
        then=("sysctl --system",),
    ),
    "limits": Target(
        "File descriptors of users who log in.",
        host.limits,
        then=("log in anew, then `ulimit -Hn` shows the limit",),
    ),
    "systemd": Target(
        "Units: a socket, and two hardened processes that take turns behind it.",
        host.systemd,
        then=(
            "systemctl daemon-reload",
            "systemctl enable --now tidegate.socket tidegate.service",
        ),
    ),
    "docker": Target(
        "A Dockerfile, and Compose with HAProxy, Prometheus and Grafana.",
        docker.docker,
        (notes.tickets,),
    ),
    "kubernetes": Target(
        "Plain manifests, and a Helm chart.",
        kubernetes.kubernetes,
        (notes.trust, notes.tickets),
    ),
    "haproxy": Target(
        "HAProxy in front of the nodes.",
        proxies.haproxy,
        (notes.trust, notes.reach, notes.asked, notes.routes, notes.tickets),
        then=("haproxy -c -f /etc/haproxy/haproxy.cfg", "systemctl reload-or-restart haproxy"),
    ),
    "nginx": Target(
        "nginx in front of the nodes.",
        proxies.nginx,
        (
            *(notes.trust, notes.reach, notes.tickets, notes.refuse),
            *(notes.routes, notes.passed_on),
        ),
        then=("nginx -t", "systemctl reload-or-restart nginx"),
    ),
    "prometheus": Target(
        "What Prometheus scrapes, and its alerts.",
        prometheus.prometheus,
        (notes.scraped,),
        then=(
            "promtool check config /etc/prometheus/prometheus.yml",
            "systemctl reload-or-restart prometheus",
        ),
    ),
    "grafana": Target("A dashboard, to be imported into Grafana.", grafana.grafana),
}
"""Everything that `tidegate deploy` writes, by its name."""
