"""What `tidegate deploy` writes, looked at by the programs that it is for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.certificates import combined
from tests.support.deploying import SETTINGS, files, plan
from tests.support.net import wait_until
from tests.support.process import Process
from tests.support.valkey import valkey
from tidegate.deploy import Node, Plan

Tool = Callable[[str], str]

# Names are looked up when a file is checked, so that these are addresses.
LOCAL = (Node("127.0.0.1", 8000), Node("::1", 8000))
each_setting = pytest.mark.parametrize("kind", SETTINGS)


def installed(name: str) -> str:
    """A program that the tests bring along."""
    return str(Path(sys.executable).with_name(name))


def checked(*command: str | Path, text: str | None = None, code: int = 0) -> str:
    """What a checker says; it must end with this code."""
    done = subprocess.run(
        [str(part) for part in command],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TZ": "UTC"},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def written(target: str, of: Plan, folder: Path) -> list[Path]:
    """The files of a target in a folder."""
    paths = []
    for name, text in files(target, of).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    return paths


# One machine.


@each_setting
def test_every_kernel_setting_is_one(kind: str, tmp_path: Path) -> None:
    for line in files("sysctl", plan(SETTINGS[kind]))["60-tidegate.conf"].splitlines():
        if not line or line.startswith("#"):
            continue
        found = re.fullmatch(r"(-?)([a-z0-9_.]+) = (\d+(?: \d+)?)", line)
        assert found, line
        path = Path("/proc/sys", *found[2].split("."))
        # Of the network namespace: a container may have only some of them.
        if not found[1] and sys.platform == "linux" and path.parent.exists():
            assert path.exists() or found[2].startswith(("net.ipv4.tcp_max", "net.core")), line


def test_limits_are_of_a_form_that_pam_reads() -> None:
    text = files("limits", plan())["60-tidegate.conf"]
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert lines == [["*", "hard", "nofile", "12288"], ["root", "hard", "nofile", "12288"]]


@each_setting
def test_systemd_knows_every_line_of_the_units(kind: str, tool: Tool, tmp_path: Path) -> None:
    own = plan(SETTINGS[kind], program=installed("tidegate"))
    written("systemd", own, tmp_path)
    (tmp_path / "tidegate@1.service").symlink_to("tidegate@.service")
    units = ("tidegate.socket", "tidegate.service", "tidegate@1.service")
    said = checked(tool("systemd-analyze"), "verify", *(tmp_path / unit for unit in units))
    # An unknown line is only told, and the machine may have units of its own that are wrong.
    assert "tidegate" not in said, said


def test_systemd_finds_the_service_well_confined(tool: Tool, tmp_path: Path) -> None:
    written("systemd", plan(program="/usr/bin/env"), tmp_path)
    unit = tmp_path / "tidegate@.service"
    said = checked(
        tool("systemd-analyze"), "security", "--offline=yes", "--no-pager", "--threshold=20", unit
    )
    level = re.search(r"exposure level for .*: ([0-9.]+)", said)
    assert level, said
    assert float(level[1]) < 2  # 10 is without any bounds, 1.3 when this was written


# Proxies.


@each_setting
@pytest.mark.parametrize("tls", [False, True])
def test_haproxy_takes_its_file(kind: str, tls: bool, tool: Tool, tmp_path: Path) -> None:
    pem = str(combined(tmp_path)) if tls else ""
    (path,) = written("haproxy", plan(SETTINGS[kind], nodes=LOCAL, tls=pem), tmp_path)
    said = checked(tool("haproxy"), "-c", "-f", path)
    assert "WARNING" not in said
    assert "ALERT" not in said


@each_setting
@pytest.mark.parametrize("tls", [False, True])
def test_nginx_takes_its_file(kind: str, tls: bool, tool: Tool, tmp_path: Path) -> None:
    pem = str(combined(tmp_path)) if tls else ""
    (path,) = written("nginx", plan(SETTINGS[kind], nodes=LOCAL, tls=pem), tmp_path)
    text = path.read_text().replace("/run/nginx.pid", str(tmp_path / "nginx.pid"))
    path.write_text(text)
    said = checked(tool("nginx"), "-t", "-c", path)
    assert "test is successful" in said
    assert "warn" not in said


ROUTED = tuple(Node("127.0.0.1", 8000 + i, f"node-{i}") for i in range(3))


def test_both_take_files_with_routes(tool: Tool, tmp_path: Path) -> None:
    (path,) = written("haproxy", plan(nodes=ROUTED), tmp_path)
    assert "WARNING" not in checked(tool("haproxy"), "-c", "-f", path)
    (path,) = written("nginx", plan(nodes=ROUTED), tmp_path)
    path.write_text(path.read_text().replace("/run/nginx.pid", str(tmp_path / "nginx.pid")))
    assert "test is successful" in checked(tool("nginx"), "-t", "-c", path)


# Containers.


@each_setting
@pytest.mark.parametrize("tls", ["", "/etc/tls/chat.pem"])
def test_docker_and_compose_take_their_files(
    kind: str, tls: str, tool: Tool, tmp_path: Path
) -> None:
    written("docker", plan(SETTINGS[kind], tls=tls), tmp_path)
    assert checked(installed("hadolint"), tmp_path / "Dockerfile") == ""
    compose = tmp_path / "compose.yml"
    checked(installed("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", compose)
    checked(
        tool("promtool"), "check", "config", "--syntax-only", tmp_path / "prometheus/prometheus.yml"
    )
    # Docker's names of the nodes are nowhere here.
    proxy = tmp_path / "haproxy.cfg"
    text = re.sub(r"tidegate-\d:", "127.0.0.1:", proxy.read_text())
    if tls:
        text = text.replace("/etc/haproxy/tls.pem", str(combined(tmp_path)))
    proxy.write_text(text)
    assert "WARNING" not in checked(tool("haproxy"), "-c", "-f", proxy)


@each_setting
def test_kubernetes_takes_its_manifests(kind: str, tmp_path: Path) -> None:
    path, *_ = written("kubernetes", plan(SETTINGS[kind]), tmp_path)
    said = checked(installed("kubernetes-validate"), "--strict", path)
    assert said.count(" passed ") == 8
    assert re.findall("Couldn't find schema for kind ([A-Za-z]+)", said) == ["ServiceMonitor"]


@pytest.mark.skipif(shutil.which("helm") is None, reason="needs helm: the chart is rendered by us")
@each_setting
def test_helm_takes_the_chart(kind: str, tmp_path: Path) -> None:
    import yaml

    path, *_ = written("kubernetes", plan(SETTINGS[kind]), tmp_path)
    checked("helm", "lint", "--strict", tmp_path / "chart")
    said = checked("helm", "template", "tidegate", tmp_path / "chart")
    by_kind = {d["kind"] + d["metadata"]["name"]: d for d in yaml.safe_load_all(said) if d}
    ours = {d["kind"] + d["metadata"]["name"]: d for d in yaml.safe_load_all(path.read_text())}
    assert by_kind == ours


# Monitoring.


@each_setting
def test_prometheus_takes_its_files(kind: str, tool: Tool, tmp_path: Path) -> None:
    path, _ = written("prometheus", plan(SETTINGS[kind]), tmp_path)
    # The file with the token is on another machine.
    option = ["--syntax-only"] if kind == "secrets" else []
    said = checked(tool("promtool"), "check", "config", *option, path)
    assert "SUCCESS" in said
    said = checked(tool("promtool"), "check", "rules", tmp_path / "tidegate.rules.yml")
    assert re.search(r"SUCCESS: 1[0-9] rules found", said)


def buckets(metric: str, **growth: str) -> dict[str, str]:
    """A histogram whose buckets grow in this way; `le_0_05` is the one up to 0.05."""
    bounds = {name: name[3:].replace("_", ".").replace("Inf", "+Inf") for name in growth}
    return {f'{metric}_bucket{{le="{bounds[name]}"}}': growth[name] for name in growth}


LAG, HEARTBEAT, TLS, BACKPLANE = (
    "websocket_event_loop_lag_seconds",
    "websocket_heartbeat_latency_seconds",
    "websocket_tls_handshake_duration_seconds",
    "websocket_backplane_latency_seconds",
)


def attempts(accepted: str, rejected: str) -> dict[str, str]:
    return {
        'websocket_connections_total{result="accepted"}': accepted,
        'websocket_connections_total{result="rejected"}': rejected,
    }


# For each alert: what makes it fire, and what is just not enough. A minute between two values.
ALERTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "TidegateUtilizationHigh": (
        {"websocket_utilization_ratio": "0.81x60"},
        {"websocket_utilization_ratio": "0.8x60"},
    ),
    "TidegateUtilizationCritical": (
        {"websocket_utilization_ratio": "0.96x60"},
        {"websocket_utilization_ratio": "0.95x60"},
    ),
    "TidegateDescriptorsHigh": (
        {"websocket_file_descriptors_used_ratio": "0.81x60"},
        {"websocket_file_descriptors_used_ratio": "0.79x60"},
    ),
    # One in five of many; and all of very few.
    "TidegateRefusals": (attempts("0+480x60", "0+120x60"), attempts("0x60", "0+30x60")),
    "TidegateQueueBacklog": (
        {'websocket_waiting{state="waiting"}': "251x60"},
        {
            'websocket_waiting{state="waiting"}': "250x60",
            'websocket_waiting{state="kept"}': "9999x60",
        },
    ),
    "TidegateBreakerOpen": (
        {"websocket_breaker_open": "1x60"},
        {"websocket_breaker_open": " ".join(["1 0 0 0"] * 15)},
    ),
    # 1,200 a minute for 2,000 and for 3,000 connections.
    "TidegateChurn": (
        {
            'websocket_connections_total{result="accepted"}': "0+1200x60",
            'websocket_connections_current{state="open"}': "2000x60",
        },
        {
            'websocket_connections_total{result="accepted"}': "0+1200x60",
            'websocket_connections_current{state="open"}': "3000x60",
        },
    ),
    "TidegateSlowClients": (
        {
            "websocket_slow_connections": "200x60",
            'websocket_connections_current{state="open"}': "1000x60",
        },
        {
            "websocket_slow_connections": "20x60",
            'websocket_connections_current{state="open"}': "90x60",
        },
    ),
    "TidegateHeartbeatSlow": (
        buckets(HEARTBEAT, le_2_5="0+90x60", le_5="0+100x60", le_Inf="0+100x60"),
        buckets(HEARTBEAT, le_1="0+96x60", le_5="0+100x60", le_Inf="0+100x60"),
    ),
    "TidegateIngestLag": (
        {'websocket_ingest_lag_records{source="orders"}': "5000+10x60"},
        {'websocket_ingest_lag_records{source="orders"}': "50000-100x60"},
    ),
    "TidegateLoopLag": (
        buckets(LAG, le_0_05="0+980x60", le_0_1="0+1000x60", le_Inf="0+1000x60"),
        buckets(LAG, le_0_05="0+995x60", le_0_1="0+1000x60", le_Inf="0+1000x60"),
    ),
    "TidegateUnderPressure": ({"websocket_zone": "2x60"}, {"websocket_zone": "1x60"}),
    "TidegateTlsSlow": (
        buckets(TLS, le_1="0+90x60", le_2_5="0+100x60", le_Inf="0+100x60"),
        buckets(TLS, le_1="0x60", le_2_5="0x60", le_Inf="0x60"),
    ),
    "TidegateBackplaneDown": (
        {"websocket_backplane_up": "0x60"},
        {"websocket_backplane_up": "1x60"},
    ),
    "TidegateBackplaneSlow": (
        buckets(BACKPLANE, le_0_1="0+80x60", le_0_25="0+100x60", le_Inf="0+100x60"),
        buckets(BACKPLANE, le_0_1="0+95x60", le_0_25="0+100x60", le_Inf="0+100x60"),
    ),
    # Two links, once each; and both of them four times.
    "TidegateBackplaneFlapping": (
        {"websocket_backplane_reconnects_total": "0+1x60"},
        {"websocket_backplane_reconnects_total": "0x20 2x40"},
    ),
    "TidegateBackplaneRefuses": (
        {'websocket_backplane_errors_total{error="refused"}': "0+1x60"},
        {
            'websocket_backplane_errors_total{error="refused"}': "1x60",
            'websocket_backplane_errors_total{error="down"}': "0+9x60",
        },
    ),
    "TidegateCrashLoop": (
        {"process_start_time_seconds": "0+60x60"},
        {"process_start_time_seconds": "1x20 2x20 3x20"},
    ),
    "TidegateDown": ({"up": "0x60"}, {"up": "1x60"}),
    # Of two processes that take turns on a machine, one does not run.
    "TidegateDown of a node": (
        {'up{node="a", port="8011"}': "0x60", 'up{node="a", port="8012"}': "0x60"},
        {'up{node="a", port="8011"}': "0x60", 'up{node="a", port="8012"}': "1x60"},
    ),
}


def test_every_alert_fires_when_it_should_and_not_before(tool: Tool, tmp_path: Path) -> None:
    written("prometheus", plan(), tmp_path)
    rules = (tmp_path / "tidegate.rules.yml").read_text()
    assert re.findall(r"- alert: (\w+)", rules) == list(dict.fromkeys(map(first_word, ALERTS)))
    tests = [
        {
            "name": f"{alert}: {'fires' if fires else 'does not'}",
            "interval": "1m",
            "input_series": [
                {"series": labelled(series), "values": values} for series, values in given.items()
            ],
            "promql_expr_test": [
                {
                    "expr": f"count(ALERTS{{{firing}}})",
                    "eval_time": "30m",
                    "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                }
            ],
        }
        for alert, cases in ALERTS.items()
        for fires, given in zip((True, False), cases, strict=True)
        for firing in [f'alertname="{first_word(alert)}", alertstate="firing"']
    ]
    # JSON is YAML.
    cases = {"rule_files": ["tidegate.rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "cases.yml").write_text(json.dumps(cases))
    assert "SUCCESS" in checked(tool("promtool"), "test", "rules", tmp_path / "cases.yml")


def first_word(text: str) -> str:
    return text.partition(" ")[0]


def labelled(series: str) -> str:
    """A series with the labels that Prometheus gives it when it scrapes."""
    name, _, labels = series.rstrip("}").partition("{")
    own = f", {labels}" if labels else ""
    return f'{name}{{job="tidegate", instance="a:8001"{own}}}'


def expressions() -> list[str]:
    """Those of the dashboard, with its variables replaced."""
    model: dict[str, Any] = json.loads(files("grafana", plan())["tidegate.json"])
    found = [target["expr"] for panel in model["panels"] for target in panel.get("targets", ())]
    return [text.replace("$__rate_interval", "1m").replace("$instance", ".*") for text in found]


def test_prometheus_takes_every_expression_of_the_dashboard(tool: Tool, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{i}", "expr": text} for i, text in enumerate(expressions())]
    assert "$" not in "".join(expressions())
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in checked(tool("promtool"), "check", "rules", path)


@pytest.mark.skipif(sys.platform != "linux", reason="metrics of the process are Linux's")
def test_every_metric_of_dashboard_and_alerts_is_on_the_page(serve: Start, tmp_path: Path) -> None:
    with valkey(tmp_path) as between:
        server = serve({"backplane": {"url": between.url}})
        names_of_all_are_on_the_page(server)


def names_of_all_are_on_the_page(server: Process) -> None:
    # Pressure is measured four times a second.
    wait_until(lambda: 'websocket_pressure{signal="cpu"}' in server.metrics())
    there = {name.partition("{")[0] for name in server.metrics()}
    rules = files("prometheus", plan())["tidegate.rules.yml"]
    used = set(re.findall(r"\b((?:websocket|process)_\w+)\{", "".join(expressions()) + rules))
    assert len(used) > 20
    of_ingest = {name for name in used if name.startswith("websocket_ingest_")}
    assert used - there == of_ingest  # there with a source only
