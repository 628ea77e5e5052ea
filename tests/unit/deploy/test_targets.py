from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.deploying import SECRETS, SETTINGS, files, plan
from tests.support.process import ROOT
from tidegate.cli.deploy import deploy
from tidegate.core.settings import Settings
from tidegate.deploy import TARGETS, Node
from tidegate.deploy.kubernetes import rendered
from tidegate.errors import UsageError
from tidegate.node.control import METRICS


def test_the_command_knows_every_target() -> None:
    named = re.findall(r"'(\w+)'", str(deploy.__annotations__["target"]).replace('"', "'"))
    assert named == list(TARGETS)
    assert all(f"`{name}`" in (deploy.__doc__ or "") for name in TARGETS)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", SETTINGS)
def test_every_file_is_complete_and_has_no_secret(target: str, kind: str) -> None:
    for name, text in files(target, plan(SETTINGS[kind])).items():
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert not re.search(r"@[a-z_]+@", text), name
        assert not [line for line in text.splitlines() if line != line.rstrip()], name
        assert "None" not in text.replace("clusterIP: None", "")
        for section in SECRETS.values():
            for value in section.values():
                assert value is True or str(value) not in text


@pytest.mark.parametrize("target", TARGETS)
def test_lines_of_files_fit_a_screen(target: str) -> None:
    for name, text in files(target, plan()).items():
        # HAProxy and Prometheus have no way to go on in another line there.
        long = [line for line in text.splitlines() if len(line) > 120 and " return " not in line]
        assert not long or name.endswith("json"), long


def test_files_of_one_place_are_written_once() -> None:
    for target in TARGETS.values():
        written = target.files(plan())
        assert len({file.name for file in written}) == len(written)
        assert {bool(file.path) for file in written} in ({True}, {False})


def test_the_dockerfile_of_the_repository_is_from_the_template() -> None:
    from tidegate.deploy.docker import dockerfile_from_source

    assert (ROOT / "Dockerfile").read_text() == dockerfile_from_source(plan())


def test_the_image_has_the_extras_that_the_server_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in ((ROOT / "Dockerfile").read_text(), files("docker", plan())["Dockerfile"]):
        extras = re.search(r"install --no-cache-dir '[^\[]*\[([\w,]+)\]", text)
        assert extras
        assert {"serve", "crypto", "workers"} == set(extras[1].split(","))
        assert set(extras[1].split(",")) <= set(project["optional-dependencies"])


def test_a_name_in_server_host_is_refused_for_a_socket() -> None:
    with pytest.raises(UsageError, match=r"server\.host 'gate.example'"):
        files("systemd", plan({"server": {"host": ["gate.example"]}}))


@pytest.mark.parametrize(
    ("hosts", "lines"),
    [
        (["127.0.0.1"], ["ListenStream=127.0.0.1:8000"]),
        (["localhost"], ["ListenStream=127.0.0.1:8000", "ListenStream=[::1]:8000"]),
        (
            ["0.0.0.0", "::"],
            ["ListenStream=0.0.0.0:8000", "ListenStream=[::]:8000", "BindIPv6Only=ipv6-only"],
        ),
        (["unix:/run/t.sock"], ["ListenStream=/run/t.sock", "SocketMode=0660"]),
    ],
)
def test_the_socket_listens_where_the_server_would(hosts: list[str], lines: list[str]) -> None:
    text = files("systemd", plan({"server": {"host": hosts}}))["tidegate.socket"]
    section = text.partition("[Socket]\n")[2].partition("FileDescriptorName")[0]
    assert section.splitlines() == lines


@pytest.mark.parametrize(
    ("admin", "public", "made"), [(8001, 8000, "801%i"), (8001, 8012, "802%i"), (80, 8000, "9%i")]
)
def test_the_two_processes_have_admin_ports_of_their_own(
    admin: int, public: int, made: str
) -> None:
    settings = {"admin": {"port": admin}, "server": {"port": public}}
    text = files("systemd", plan(settings))["tidegate@.service"]
    assert f"Environment=TIDEGATE_ADMIN_PORT={made}\n" in text


@pytest.mark.parametrize(
    ("target", "settings", "said"),
    [
        ("haproxy", {}, ["proxies.trusted is empty", "server.host is loopback"]),
        ("haproxy", {"server": {"host": "unix:/run/t"}}, ["server.host is loopback"]),
        (
            "haproxy",
            {**SETTINGS["trusted proxies"], "agent_check": {"enabled": True}},
            ["server.host is loopback", "agent_check.host is loopback"],
        ),
        (
            "nginx",
            {"proxies": {"trusted": ["10.0.0.0/8"]}, "server": {"host": "0.0.0.0"}},
            ["refuse"],
        ),
        ("kubernetes", SETTINGS["trusted proxies"], []),
        ("kubernetes", {**SETTINGS["trusted proxies"], "waiting_room": {"enabled": True}}, ["ti"]),
        ("prometheus", {}, ["admin.host is loopback"]),
        ("prometheus", {"admin": {"enabled": False}}, ["admin.enabled"]),
        ("sysctl", {}, []),
    ],
)
def test_what_somebody_must_make_right_is_said(
    target: str, settings: dict[str, Any], said: list[str]
) -> None:
    found = [text for text in (note(plan(settings)) for note in TARGETS[target].notes) if text]
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


def test_what_nodes_with_routes_need_is_said() -> None:
    nodes = (Node("10.0.0.5", 8000, "a"), Node("::1", 8000, "b"))
    settings = {"server": {"host": "0.0.0.0", "refuse": "http"}}
    proxies = {"trusted": ["10.0.0.0/8"], "protocol": True}
    said = "set server.route on each node: a on 10.0.0.5:8000, b on [::1]:8000"
    for target, more in (("haproxy", 0), ("nginx", 1)):
        own = plan({**settings, "proxies": proxies}, nodes=nodes)
        found = [text for text in (note(own) for note in TARGETS[target].notes) if text]
        assert found[0] == said
        assert len(found) == 1 + more


def test_routes_are_in_the_files_of_proxies_and_nowhere_without_them() -> None:
    nodes = (Node("10.0.0.5", 8000, "a"), Node("10.0.0.6", 8000, "include"))
    haproxy = files("haproxy", plan(nodes=nodes))["haproxy.cfg"]
    assert "use-server %[url_param(route)]" in haproxy
    assert haproxy.count("server include 10.0.0.6:8000") == 2
    nginx = files("nginx", plan(nodes=nodes))["nginx.conf"]
    assert "proxy_pass http://$tidegate_node;" in nginx
    assert "\\include tidegate_include;" in nginx
    for target in ("haproxy", "nginx"):
        assert "route" not in "".join(files(target, plan()).values())


def test_nodes_on_this_machine_need_no_other_address() -> None:
    local = plan(SETTINGS["trusted proxies"], nodes=(Node("127.0.0.1", 8000),))
    assert not any(note(local) for note in TARGETS["haproxy"].notes)


# The chart.

VALUES = {"a": {"b": "x"}, "n": 3, "on": True, "off": False, "map": {"k": "v", "l": "w"}}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("a: {{ .Values.a.b }}-{{ .Release.Name }}\n", "a: x-tidegate\n"),
        ("a: {{ .Values.a.b | quote }}\n", 'a: "x"\n'),
        ("a: {{- .Values.map | toYaml | nindent 2 }}\n", 'a:\n  k: "v"\n  l: "w"\n'),
        ("{{- if .Values.on }}\na\n{{- end }}\nb\n", "a\nb\n"),
        ("{{- if .Values.off }}\na\n{{- end }}\nb\n", "b\n"),
        (
            "{{- if not .Values.off }}\na\n{{- if .Values.on }}\nb\n{{- end }}\n{{- end }}\n",
            "a\nb\n",
        ),
        ("{{- if .Values.off }}\na\n{{- if .Values.on }}\nb\n{{- end }}\n{{- end }}\nc\n", "c\n"),
    ],
)
def test_the_chart_is_rendered_as_helm_does(text: str, made: str) -> None:
    assert rendered(text, VALUES) == made


@pytest.mark.parametrize(
    "text", ["{{ include }}\n", "{{ .Values.n | upper }}\n", "{{- if .Values.on }}\n"]
)
def test_what_is_not_known_of_helm_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        rendered(text, VALUES)


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_chart_with_its_values_is_the_manifest(kind: str) -> None:
    made = files("kubernetes", plan(SETTINGS[kind]))
    values = yaml.safe_load(made["chart/values.yaml"])
    templates = [
        text
        for name, text in made.items()
        if name.startswith("chart/templates/") and name.endswith(".yaml")
    ]
    from_chart = [
        document for text in templates for document in yaml.safe_load_all(rendered(text, values))
    ]
    assert from_chart == list(yaml.safe_load_all(made["kubernetes.yaml"]))
    assert {document["kind"] for document in from_chart} == {
        "ServiceAccount",
        "ConfigMap",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "ServiceMonitor",
    }
    used = {path for text in templates for path in re.findall(r"\.Values\.([\w.]+)", text)}
    known = set(leaves(values, "")) | {"settings"}
    assert used | {"replicas"} <= known
    assert {path.split(".")[0] for path in known} == {path.split(".")[0] for path in used}


@pytest.mark.parametrize(("waiting", "path"), [(False, "/ready"), (True, "/health")])
def test_pods_with_a_waiting_room_get_clients_when_they_are_full(waiting: bool, path: str) -> None:
    made = files("kubernetes", plan({"waiting_room": {"enabled": waiting}}))["kubernetes.yaml"]
    pods = next(d for d in yaml.safe_load_all(made) if d["kind"] == "Deployment")
    (container,) = pods["spec"]["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": path, "port": "admin"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/health", "port": "admin"}


def leaves(values: dict[str, Any], before: str) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


def test_settings_reach_a_container_as_they_are() -> None:
    from tidegate.server.config import load

    given = Settings.from_mapping(SETTINGS["odd values"])
    made = files("kubernetes", plan(SETTINGS["odd values"]))["kubernetes.yaml"]
    config = next(d for d in yaml.safe_load_all(made) if d["kind"] == "ConfigMap")["data"]
    token = {"TIDEGATE_ADMIN_TOKEN": "a-token-of-the-operator"}
    loaded = load(environment={**config, **token}).settings
    differs = [
        name
        for (name, _, value), (_, _, own) in zip(loaded.items(), given.items(), strict=True)
        if value != own
    ]
    assert differs == ["server.host", "admin.host", "admin.token", "log.format"]
    compose = yaml.safe_load(files("docker", plan(SETTINGS["odd values"]))["compose.yml"])
    environment = compose["services"]["tidegate-1"]["environment"]
    again = load(environment={**environment, **token}).settings
    assert again.limits == loaded.limits
    assert again.tiers == loaded.tiers
    assert again.proxies.trusted == ("172.30.97.0/24",)
    assert again.backplane.url == "redis://valkey:6379"


def test_nodes_in_compose_share_a_valkey_and_have_routes() -> None:
    compose = yaml.safe_load(files("docker", plan())["compose.yml"])
    services = compose["services"]
    for name in ("tidegate-1", "tidegate-2"):
        own = services[name]
        assert own["environment"]["TIDEGATE_SERVER_ROUTE"] == name
        assert own["environment"]["TIDEGATE_BACKPLANE_URL"] == "redis://valkey:6379"
        assert "back" in own["networks"]
    first, second = services["tidegate-1"], services["tidegate-2"]
    assert {**first, "environment": 0} == {**second, "environment": 0}
    # Nobody but the nodes reaches it.
    assert services["valkey"]["networks"] == ["back"]
    assert [name for name, own in services.items() if "back" in own["networks"]] == [
        "tidegate-1",
        "tidegate-2",
        "valkey",
    ]
    assert compose["networks"]["back"] == {"internal": True}


def test_a_backplane_of_ones_own_takes_the_place_of_the_valkey() -> None:
    written = files("docker", plan(SETTINGS["a backplane"]))
    compose = yaml.safe_load(written["compose.yml"])
    assert "valkey" not in compose["services"]
    assert "valkey" not in compose["volumes"]
    assert "back" not in compose["networks"]
    environment = compose["services"]["tidegate-2"]["environment"]
    assert environment["TIDEGATE_BACKPLANE_URL"] == "${TIDEGATE_BACKPLANE_URL:?see .env.example}"
    assert "TIDEGATE_BACKPLANE_URL=\n" in written[".env.example"]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, True),
        ({"backplane": {"url": "redis://10.0.0.9"}}, False),
        ({"backplane": {"url": "redis://10.0.0.9"}, "fleet": {"limits": False}}, True),
        # What is posted must reach its stream.
        ({"backplane": {"url": "redis://10.0.0.9"}, "server": {"sse": "/sse"}}, True),
        # It carries messages and no limits.
        ({"backplane": {"url": "nats://10.0.0.9:4222"}}, True),
        ({"backplane": {"url": "kafka://10.0.0.9:9092"}}, True),
    ],
)
def test_haproxy_keeps_addresses_on_one_node_where_limits_need_it(
    settings: dict[str, Any], kept: bool
) -> None:
    text = files("haproxy", plan(settings))["haproxy.cfg"]
    assert ("stick on src" in text) is kept
    assert "stick on src" not in files("docker", plan())["haproxy.cfg"]


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        (None, [6379]),
        ("redis://:hush@10.0.0.9", [6379]),
        ("rediss://ann:hush@valkey.example:6380/1", [6380]),
        ("redis+sentinel://a:26379,b:26380/primary", [6379, 26379, 26380]),
        ("redis+sentinel://a,b/primary", [6379, 26379]),
        ("redis+cluster://a:7001,b:7002", [7001, 7002]),
        ("kafka+tls://a,b:9093", [9093]),
        ("kafka+tls://a,b", [9092]),
        ("redis://[fd00::1]:7000", [7000]),
        ("redis://[fd00::1]", [6379]),
    ],
)
def test_pods_reach_the_backplane_and_nothing_else(url: str | None, ports: list[int]) -> None:
    own = plan({} if url is None else {"backplane": {"url": url}})
    resources = list(yaml.safe_load_all(files("kubernetes", own)["kubernetes.yaml"]))
    (policy,) = (one for one in resources if one["kind"] == "NetworkPolicy")
    (rule,) = policy["spec"]["egress"]
    assert rule["ports"] == [
        {"port": 53, "protocol": "UDP"},
        {"port": 53},
        *({"port": port} for port in ports),
    ]
    (deployment,) = (one for one in resources if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (taken,) = (own for own in container["env"] if own["name"] == "TIDEGATE_BACKPLANE_URL")
    reference = taken["valueFrom"]["secretKeyRef"]
    assert reference["key"] == "backplane-url"
    assert reference.get("optional", False) is (url is None)


def test_workers_count_in_all_that_is_of_a_node() -> None:
    one, four = plan({"limits": {"connections": 5000}}), plan(SETTINGS["workers"])
    assert (four.limit, four.connections, four.all_connections) == (5000, 20_000, 40_000)
    assert four.descriptors == one.descriptors
    assert four.memory >= 4 * one.memory
    assert four.holding(9999).settings.limits.connections == 2500
    resources = list(yaml.safe_load_all(files("kubernetes", four)["kubernetes.yaml"]))
    (deployment,) = (own for own in resources if own["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == "4"
    assert yaml.safe_load(files("docker", four)["compose.yml"])["services"]["tidegate-1"][
        "tmpfs"
    ] == ["/tmp"]
    # One for each core: files are not for one machine.
    assert plan({"server": {"workers": 0}}).connections == 10_000


# The dashboard and the alerts.

NAMES = {metric.name for metric in METRICS}
KNOWN = {
    *NAMES,
    *(f"{metric.name}_bucket" for metric in METRICS if metric.kind == "histogram"),
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "up",
}


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\b((?:websocket|tidegate|process)_\w+|up)\{", expression))


def dashboard() -> dict[str, Any]:
    model: dict[str, Any] = json.loads(files("grafana", plan())["tidegate.json"])
    return model


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert grid["x"] + grid["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["title"] for panel in panels}) == len(panels)


def test_the_first_row_has_the_six_things_to_watch() -> None:
    row, *panels = dashboard()["panels"]
    first = [panel for panel in panels if panel["gridPos"]["y"] == row["gridPos"]["h"]]
    assert row["type"] == "row"
    assert [panel["title"] for panel in first] == [
        "Utilization",
        "Refused attempts",
        "Event loop lag, p99",
        "Heartbeat latency, p95",
        "Slow clients",
        "File descriptors",
    ]


def test_every_metric_of_the_dashboard_and_the_alerts_exists() -> None:
    shown = {
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())
    }
    rules = yaml.safe_load(files("prometheus", plan())["tidegate.rules.yml"])
    asked = {rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    for expression in shown | asked:
        used = metrics_in(expression)
        assert used, expression
        assert used <= KNOWN, expression
    assert {"%", "@"}.isdisjoint("".join(shown))


def test_every_alert_names_a_place_in_the_documentation() -> None:
    from tests.docs.pages import anchors

    rules = yaml.safe_load(files("prometheus", plan())["tidegate.rules.yml"])
    for group in rules["groups"]:
        for rule in group["rules"]:
            page, _, anchor = rule["annotations"]["runbook"].partition("#")
            assert anchor in anchors(ROOT / page), rule["alert"]
            assert rule["labels"]["severity"] in ("warning", "critical")
