"""A dashboard for Grafana: the six things to watch in the first row, and what explains them."""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

from tidegate.deploy.plan import File, Plan

__all__ = ["dashboard", "grafana"]

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_OF: Final = 'job="tidegate",instance=~"$instance"'
_COLUMNS: Final = 24  # of Grafana's grid


class _Panel(NamedTuple):
    """One panel; `queries` are expressions with the legend of each.

    `%` in an expression stands for the selection of the nodes. `steps` are the values from which it
    is yellow and red.
    """

    title: str
    text: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    steps: tuple[float, float] | None = None
    most: float | None = None
    stacked: bool = False


def _quantile(share: str, metric: str) -> str:
    rate = f"rate({metric}_bucket{{%}}[$__rate_interval])"
    return f"histogram_quantile({share}, sum by (instance, le) ({rate}))"


def _rate(metric: str, by: str, matchers: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{{%{matchers}}}[$__rate_interval]))"


_WATCH: Final = (
    _Panel(
        "Utilization",
        "Open connections as a share of limits.connections. At 100 % clients are refused or wait.",
        "percentunit",
        (("websocket_utilization_ratio{%}", "{{instance}}"),),
        (0.8, 0.95),
        1,
    ),
    _Panel(
        "Refused attempts",
        "Share of all attempts. Some are right: a pace in a storm, a limit for one address.",
        "percentunit",
        (
            (
                _rate("websocket_connections_total", "instance", ',result="rejected"')
                + " / "
                + _rate("websocket_connections_total", "instance"),
                "{{instance}}",
            ),
        ),
        (0.05, 0.1),
        1,
    ),
    _Panel(
        "Event loop lag, p99",
        "Every message waits for as long.",
        "s",
        ((_quantile("0.99", "websocket_event_loop_lag_seconds"), "{{instance}}"),),
        (0.02, 0.05),
    ),
    _Panel(
        "Heartbeat latency, p95",
        "From a ping to its pong: the network, and clients that are busy.",
        "s",
        ((_quantile("0.95", "websocket_heartbeat_latency_seconds"), "{{instance}}"),),
        (1, 2.5),
    ),
    _Panel(
        "Slow clients",
        "Connections that have not taken yet what was sent to them.",
        "short",
        (("websocket_slow_connections{%}", "{{instance}}"),),
    ),
    _Panel(
        "File descriptors",
        "As a share of those that connections may have.",
        "percentunit",
        (("websocket_file_descriptors_used_ratio{%}", "{{instance}}"),),
        (0.7, 0.8),
        1,
    ),
)

_ROWS: Final[tuple[tuple[str, tuple[_Panel, ...]], ...]] = (
    ("The six things to watch", _WATCH),
    (
        "Connections",
        (
            _Panel(
                "Open connections",
                "The broken line is limits.connections.",
                "short",
                (
                    ('websocket_connections_current{%,state="open"}', "{{instance}}"),
                    ('websocket_limit{%,setting="connections"}', "limit of {{instance}}"),
                ),
            ),
            _Panel(
                "New connections",
                "Accepted attempts a second.",
                "cps",
                (
                    (
                        _rate("websocket_connections_total", "instance", ',result="accepted"'),
                        "{{instance}}",
                    ),
                ),
            ),
            _Panel(
                "Refusals by reason",
                "The reference of codes says what each means.",
                "cps",
                ((_rate("websocket_rejections_total", "reason") + " > 0", "{{reason}}"),),
                stacked=True,
            ),
            _Panel(
                "Ends by reason",
                "Why connections ended.",
                "cps",
                ((_rate("websocket_disconnections_total", "reason") + " > 0", "{{reason}}"),),
                stacked=True,
            ),
            _Panel(
                "Ends by close code",
                "1006: without a close frame.",
                "cps",
                ((_rate("websocket_closes_total", "code") + " > 0", "{{code}}"),),
                stacked=True,
            ),
            _Panel(
                "Waiting room",
                "Clients that wait for a lease, and leases kept for holders of tickets.",
                "short",
                (("websocket_waiting{%}", "{{state}} {{instance}}"),),
            ),
        ),
    ),
    (
        "Messages",
        (
            _Panel(
                "Messages a second",
                "Received, and sent: one for each receiver.",
                "mps",
                (
                    (_rate("websocket_messages_received_total", "instance"), "in {{instance}}"),
                    (_rate("websocket_messages_sent_total", "instance"), "out {{instance}}"),
                ),
            ),
            _Panel(
                "Throughput",
                "Bytes on the wire, without TLS.",
                "Bps",
                (
                    (
                        _rate("websocket_bytes_total", "instance, direction"),
                        "{{direction}} {{instance}}",
                    ),
                ),
            ),
            _Panel(
                "Held back and dropped",
                "Messages that came too fast, and those that slow clients missed.",
                "mps",
                (
                    (_rate("websocket_messages_limited_total", "action"), "{{action}}"),
                    (_rate("websocket_messages_dropped_total", "policy"), "{{policy}}"),
                ),
            ),
        ),
    ),
    (
        "The process",
        (
            _Panel(
                "Zone",
                "0 normal, 1 warning, 2 critical, 3 emergency.",
                "short",
                (("websocket_zone{%}", "{{instance}}"),),
                (1, 2),
                3,
            ),
            _Panel(
                "Pressure by signal",
                "How close to its limit each signal is; the highest decides.",
                "percentunit",
                (("max by (signal) (websocket_pressure{%})", "{{signal}}"),),
                most=1,
            ),
            _Panel(
                "Processor",
                "Of one core.",
                "percentunit",
                (
                    (
                        "rate(process_cpu_seconds_total{%}[$__rate_interval])",
                        "{{instance}}",
                    ),
                ),
            ),
            _Panel(
                "Memory",
                "Of the process, without what the kernel holds for sockets.",
                "bytes",
                (("process_resident_memory_bytes{%}", "{{instance}}"),),
            ),
            _Panel(
                "Buffers",
                "Unfinished messages and outboxes; buffers.max_bytes bounds them.",
                "bytes",
                (
                    ("websocket_buffers_bytes{%}", "all {{instance}}"),
                    ("websocket_outbox_bytes{%}", "outboxes {{instance}}"),
                ),
            ),
            _Panel(
                "Handshakes, p99",
                "From accepting a connection to the response; TLS by itself.",
                "s",
                (
                    (_quantile("0.99", "websocket_handshake_duration_seconds"), "{{instance}}"),
                    (
                        _quantile("0.99", "websocket_tls_handshake_duration_seconds"),
                        "TLS {{instance}}",
                    ),
                ),
            ),
        ),
    ),
)


def grafana(_plan: Plan) -> list[File]:
    """The dashboard, to be imported, or provisioned from a folder."""
    return [File("tidegate.json", dashboard())]


def dashboard() -> str:
    """The dashboard as JSON, in the model of Grafana 10 and newer."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in _ROWS:
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": _COLUMNS, "h": 1},
                "panels": [],
            }
        )
        y += 1
        # Six beside each other in the first row, three in the others.
        width, height = (_COLUMNS // 6, 6) if row is _WATCH else (_COLUMNS // 3, 8)
        for number, panel in enumerate(row):
            place = number * width
            grid = {
                "x": place % _COLUMNS,
                "y": y + place // _COLUMNS * height,
                "w": width,
                "h": height,
            }
            panels.append(_panel(panel, len(panels) + 1, grid))
        y += -(-len(row) * width // _COLUMNS) * height
    model = {
        "uid": "tidegate",
        "title": "Tidegate",
        "description": "WebSocket connections of Tidegate, and what limits them.",
        "tags": ["tidegate", "websocket"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_datasource(), _instances()]},
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(model, indent=2) + "\n"


def _panel(panel: _Panel, number: int, grid: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "custom": {
            "fillOpacity": 20 if panel.stacked else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "line" if panel.steps else "off"},
        },
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.steps:
        yellow, red = panel.steps
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [
                {"color": "green", "value": None},
                {"color": "yellow", "value": yellow},
                {"color": "red", "value": red},
            ],
        }
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": grid,
        "fieldConfig": {"defaults": defaults, "overrides": _overrides(panel)},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": _SOURCE,
                "editorMode": "code",
                "range": True,
                "expr": expression.replace("%", _OF),
                "legendFormat": legend,
            }
            for place, (expression, legend) in enumerate(panel.queries)
        ],
    }


def _overrides(panel: _Panel) -> list[dict[str, Any]]:
    """Limits are drawn as broken lines."""
    if not any(legend.startswith("limit") for _, legend in panel.queries):
        return []
    dashed = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}}
    return [{"matcher": {"id": "byRegexp", "options": "/^limit /"}, "properties": [dashed]}]


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Source",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
    }


def _instances() -> dict[str, Any]:
    query = 'label_values(websocket_utilization_ratio{job="tidegate"}, instance)'
    return {
        "name": "instance",
        "label": "Node",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "instance"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }
