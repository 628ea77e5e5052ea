"""A dashboard for Grafana: the six things to watch in the first row, and what explains them."""

from __future__ import annotations

import json
from typing import Any, Final

from tidegate.deploy.panels import ROWS, WATCH, Panel
from tidegate.deploy.plan import File, Plan

__all__ = ["dashboard", "grafana"]

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_OF: Final = 'job="tidegate",instance=~"$instance"'
_COLUMNS: Final = 24  # of Grafana's grid


def grafana(_plan: Plan) -> list[File]:
    """The dashboard, to be imported, or provisioned from a folder."""
    return [File("tidegate.json", dashboard())]


def dashboard() -> str:
    """The dashboard as JSON, in the model of Grafana 10 and newer."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
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
        width, height = (_COLUMNS // 6, 6) if row is WATCH else (_COLUMNS // 3, 8)
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


def _panel(panel: Panel, number: int, grid: dict[str, int]) -> dict[str, Any]:
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


def _overrides(panel: Panel) -> list[dict[str, Any]]:
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
