"""Kubernetes: a Helm chart, and the same as plain manifests.

The templates of the chart are the one source. They use a small part of Helm's language, which
`rendered` knows: values of `.Values` and `.Release.Name`, the functions in `_FUNCTIONS`, and
`if` and `end` on lines of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tidegate.deploy.plan import File, Plan, variable
from tidegate.deploy.rendering import comment, render

__all__ = ["RESOURCES", "kubernetes", "rendered"]

RESOURCES: Final = (
    "serviceaccount.yaml",
    "configmap.yaml",
    "deployment.yaml",
    "service.yaml",
    "poddisruptionbudget.yaml",
    "horizontalpodautoscaler.yaml",
    "networkpolicy.yaml",
    "servicemonitor.yaml",
)
"""The templates of the chart, in the order in which they are applied."""

_RELEASE: Final = "tidegate"
_BACKPLANE: Final = "backplane.url"
_PORTS: Final = {"sentinel": 26379, "nats": 4222, "tls": 4222, "kafka": 9092, "kafka+tls": 9092}
_EXAMPLES: Final = {
    "admin.token": '"$(openssl rand -hex 32)"',
    _BACKPLANE: "redis://:PASSWORD@valkey:6379",
}
_COMMENTS: Final = {
    "replicas": "Nodes, where the autoscaler is off.",
    "image": "The image of `tidegate deploy docker`, in a registry of yours.",
    "secret": "The Secret with admin-token and the other secrets; notes say how to make it.",
    "tls": "The Secret (kubernetes.io/tls) for clients; empty where TLS ends before the nodes.",
    "settings": "Settings of Tidegate, as variables: TIDEGATE_LIMITS_PER_IP for limits.per_ip.",
    "readiness": "/ready: full pods get nobody new. /health: they do, and have a waiting room.",
    "terminationGracePeriodSeconds": "drain.window, server.close_timeout, 5 s of preStop, and 5 s.",
    "resources": "A core for each process. A limit on it would throttle bursts: there is none.",
    "service": "What clients connect to; keepsAddress must be false with the type ClusterIP.",
    "autoscaling": "By connections; needs the Prometheus adapter, see the notes of the chart.",
    "networkPolicy": "Who may connect to the admin port: pods of this namespace, by its name.",
    "serviceMonitor": "For the Prometheus operator.",
}


def kubernetes(plan: Plan) -> list[File]:
    """Plain manifests, and the chart that they come from."""
    values = _values(plan)
    resources = {name: _chart_template(name, plan) for name in RESOURCES}
    manifests = "---\n".join(rendered(text, values) for text in resources.values())
    head = render("kubernetes-head.yaml", {"secret": comment(_indented(_secret_command(plan)))})
    chart = {
        "Chart.yaml": render("chart/Chart.yaml", {"version": plan.version}),
        "values.yaml": _values_file(values),
        "templates/NOTES.txt": render(
            "chart/templates/NOTES.txt", {"secret": _secret_command(plan)}
        ),
        **{f"templates/{name}": text for name, text in resources.items()},
    }
    return [
        File("kubernetes.yaml", head + manifests),
        *(File(f"chart/{name}", text) for name, text in chart.items()),
    ]


def _values(plan: Plan) -> dict[str, Any]:
    settings = plan.settings
    return {
        "replicas": max(2, len(plan.nodes)),
        "image": {"repository": "tidegate", "tag": plan.version, "pullPolicy": "IfNotPresent"},
        "secret": "tidegate",
        "tls": {"secret": "tidegate-tls" if settings.tls.certificate else ""},
        "settings": {
            variable("limits.connections"): str(plan.limit),
            **dict(plan.changed),
            variable("server.host"): "0.0.0.0",
            variable("server.port"): str(settings.server.port),
            variable("admin.host"): "0.0.0.0",
            variable("admin.port"): str(settings.admin.port),
            variable("proxies.trusted"): ",".join(settings.proxies.trusted),
            variable("log.format"): "json",
        },
        # A full pod with a waiting room is where clients wait.
        "readiness": "/health" if settings.waiting_room.enabled else "/ready",
        "terminationGracePeriodSeconds": plan.drain_seconds + 5,
        "resources": {"cpu": str(plan.workers), "memory": f"{plan.memory}Mi"},
        "service": {
            "type": "LoadBalancer",
            "port": 443 if settings.tls.certificate else 80,
            "keepsAddress": True,
        },
        "autoscaling": {
            "enabled": True,
            "minReplicas": max(2, len(plan.nodes)),
            "maxReplicas": 5 * max(2, len(plan.nodes)),
            "connections": str(plan.connections * 7 // 10),
        },
        "networkPolicy": {"enabled": True, "monitoringNamespace": "monitoring"},
        "serviceMonitor": {"enabled": True},
    }


def _chart_template(name: str, plan: Plan) -> str:
    values = {
        "secrets": "\n".join(_secret(name, plan) for name in _secrets(plan)),
        "backplane_ports": "\n".join(f"- port: {port}" for port in _backplane_ports(plan)),
        "port": plan.settings.server.port,
        "admin_port": plan.settings.admin.port,
    }
    return render(f"chart/templates/{name}", values)


def _secrets(plan: Plan) -> list[str]:
    """The names of secret settings, with the backplane always: there are several pods."""
    return list(dict.fromkeys((*plan.secrets, _BACKPLANE)))


def _secret(name: str, plan: Plan) -> str:
    """A variable from the Secret. Without a backplane the pods start, each for itself."""
    missing = "\n      optional: true" if name not in plan.secrets else ""
    return (
        f"- name: {variable(name)}\n"
        "  valueFrom:\n"
        "    secretKeyRef:\n"
        "      name: {{ .Values.secret }}\n"
        f"      key: {_key(name)}{missing}"
    )


def _backplane_ports(plan: Plan) -> list[int]:
    """Where pods reach the backplane, for the network policy."""
    parts = urlsplit(plan.settings.backplane.url or "redis://valkey")
    hosts = parts.netloc.rpartition("@")[2].split(",")
    named = {int(port) for _, _, port in (host.rpartition(":") for host in hosts) if port.isdigit()}
    usual = _PORTS.get(parts.scheme) or _PORTS.get(parts.scheme.partition("+")[2], 6379)
    # Behind sentinels is the server itself, and they say where.
    return sorted((named or {usual}) | ({6379} if "sentinel" in parts.scheme else set()))


def _secret_command(plan: Plan) -> str:
    """How the Secret is made, for a shell."""
    lines = [f"kubectl create secret generic {_RELEASE}"]
    for name in _secrets(plan):
        value = _EXAMPLES.get(name, "...")
        lines.append(f"    --from-literal={_key(name)}={value}")
    return " \\\n".join(lines)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _key(name: str) -> str:
    return re.sub(r"[._]", "-", name)


def _values_file(values: Mapping[str, Any]) -> str:
    """The values as YAML, which JSON's scalars are too, with what each group is for."""
    lines = ["# What can be set of the chart. Written by `tidegate deploy kubernetes`."]
    for name, value in values.items():
        lines += ["", f"# {_COMMENTS[name]}", *_yaml(name, value, "")]
    return "\n".join(lines) + "\n"


def _yaml(name: str, value: Any, indent: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{indent}{name}: {json.dumps(value)}"
        return
    yield f"{indent}{name}:"
    for key, own in value.items():
        yield from _yaml(key, own, f"{indent}  ")


# The part of Helm's language that the chart uses.

_TAG: Final = re.compile(r"(?: *\{\{-|\{\{) *(.+?) *\}\}")
_BLOCK: Final = re.compile(r"^\{\{- (if (?:not )?\.[\w.]+|end) \}\}$")


def rendered(text: str, values: Mapping[str, Any]) -> str:
    """A template of the chart as Helm renders it.

    Raises:
        ValueError: it uses something that is not known here.
        KeyError: it uses a value that there is not.
    """
    kept: list[str] = []
    shown = [True]
    for line in text.splitlines(keepends=True):
        block = _BLOCK.match(line.strip())
        if block is None:
            if all(shown):
                kept.append(_TAG.sub(lambda tag: _expression(tag[1], values), line))
        elif block[1] == "end":
            shown.pop()
        else:
            *_, negated, path = ("", *block[1].removeprefix("if ").split())[-2:]
            shown.append(bool(_value(path, values)) is (negated != "not"))
    if len(shown) != 1:
        raise ValueError("an if without its end")
    return "".join(kept)


def _expression(text: str, values: Mapping[str, Any]) -> str:
    first, *pipes = (part.strip() for part in text.split("|"))
    value = _value(first, values)
    for pipe in pipes:
        name, *arguments = pipe.split()
        if name not in _FUNCTIONS:
            raise ValueError(f"{name} is not known")
        value = _FUNCTIONS[name](value, *arguments)
    return str(value)


def _value(path: str, values: Mapping[str, Any]) -> Any:
    found: Any = {"Values": values, "Release": {"Name": _RELEASE}}
    if not path.startswith("."):
        raise ValueError(f"{path} is not known")
    for key in path[1:].split("."):
        found = found[key]
    return found


def _to_yaml(value: Mapping[str, Any]) -> str:
    return "\n".join(line for key, own in value.items() for line in _yaml(key, own, ""))


def _nindent(text: str, size: str) -> str:
    return "".join(f"\n{' ' * int(size)}{line}" for line in text.splitlines())


_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "quote": json.dumps,
    "toYaml": _to_yaml,
    "nindent": _nindent,
}
