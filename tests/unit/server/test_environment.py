"""Variables that Kubernetes and Docker make, for services whose names begin as ours."""

from __future__ import annotations

import pytest

from tidegate.core.settings import Settings
from tidegate.errors import ConfigError
from tidegate.server.config import load
from tidegate.server.environment import environment_name, is_injected, setting_of

SERVICES = ["", "ADMIN_", "SERVER_", "BACK_END_", "TIERS_", "V2_"]


def kubernetes(service: str, ip: str = "10.96.0.7") -> dict[str, str]:
    """What a pod gets for a service with two ports, as the kubelet makes it."""
    host = f"[{ip}]" if ":" in ip else ip
    variables = {
        "SERVICE_HOST": ip,
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "SERVICE_PORT_ADMIN_API": "8001",
        "PORT": f"tcp://{host}:8000",
    }
    for port, protocol in ((8000, "tcp"), (8001, "udp"), (8002, "sctp")):
        name = f"PORT_{port}_{protocol.upper()}"
        variables |= {
            name: f"{protocol}://{host}:{port}",
            f"{name}_PROTO": protocol,
            f"{name}_PORT": str(port),
            f"{name}_ADDR": ip,
        }
    return {f"TIDEGATE_{service}{name}": value for name, value in variables.items()}


def docker(alias: str) -> dict[str, str]:
    """What a container gets for a link, with a range of ports."""
    variables = {
        "NAME": "/web/tidegate",
        "PORT": "tcp://172.17.0.5:8000",
        "PORT_8000_TCP": "tcp://172.17.0.5:8000",
        "PORT_8000_TCP_PROTO": "tcp",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": "172.17.0.5",
        "PORT_8000_TCP_START": "tcp://172.17.0.5:8000",
        "PORT_8000_TCP_PORT_START": "8000",
        "PORT_8000_TCP_END": "tcp://172.17.0.5:8009",
        "PORT_8000_TCP_PORT_END": "8009",
        "PORT_START": "tcp://172.17.0.5:8000",
        "PORT_END": "tcp://172.17.0.5:8009",
        "ENV_PATH": "/usr/bin",
        "ENV_X": "",
        "ENV_TIDEGATE_LIMITS_PER_IP": "7",
    }
    return {f"TIDEGATE_{alias}{name}": value for name, value in variables.items()}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("ip", ["10.96.0.7", "fd00::7"])
def test_variables_of_kubernetes_are_no_settings(service: str, ip: str) -> None:
    environment = kubernetes(service, ip)
    loaded = load(None, {**environment, "TIDEGATE_LIMITS_PER_IP": "5"})
    assert loaded.sources == {"limits.per_ip": "TIDEGATE_LIMITS_PER_IP"}
    assert set(loaded.injected) == set(environment)


@pytest.mark.parametrize("alias", SERVICES)
def test_variables_of_docker_are_no_settings(alias: str) -> None:
    environment = docker(alias)
    loaded = load(None, environment)
    assert loaded.settings == Settings()
    assert set(loaded.injected) == set(environment)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TIDEGATE_PORT", "8000"),
        ("TIDEGATE_PORT", "http://10.0.0.1"),
        ("TIDEGATE_SERVICE_HOST", "0.0.0.0"),
        ("TIDEGATE_SERVICE_HOST", "::"),
        ("TIDEGATE_SERVICE_HOST", "127.0.0.1"),
        ("TIDEGATE_SERVICE_HOST", "gate.example"),
        ("TIDEGATE_SERVICE_PORT", "http"),
        ("TIDEGATE_NAME", "gate"),
        ("TIDEGATE_LIMIT_PER_IP", "5"),
        ("TIDEGATE_LIMIT_PER_IP", ""),
        ("TIDEGATE_ENV", "production"),
        ("TIDEGATE_HOST", "10.0.0.1"),
        ("TIDEGATE_PORTS", "tcp://10.0.0.1:80"),
        ("TIDEGATE_PORT_8000_TCP_HOST", "10.0.0.1"),
    ],
)
def test_a_mistake_in_a_name_is_still_refused(variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^{variable}: there is no such setting"):
        load(None, {variable: value})


def test_a_number_in_the_variable_of_a_port_is_the_setting() -> None:
    loaded = load(None, {"TIDEGATE_ADMIN_PORT": "9001", "TIDEGATE_SERVER_PORT": "9000"})
    assert (loaded.settings.admin.port, loaded.settings.server.port) == (9001, 9000)
    with pytest.raises(ConfigError, match=r"admin\.port = .* \(TIDEGATE_ADMIN_PORT\)"):
        load(None, {"TIDEGATE_ADMIN_PORT": "http://10.0.0.1:80"})


def test_a_tier_may_have_any_name() -> None:
    loaded = load(None, {"TIDEGATE_TIERS_ENV_PER_USER": "3", "TIDEGATE_TIERS_NAME_RESERVED": "0.1"})
    assert (loaded.settings.tiers["env"].per_user, loaded.settings.tiers["name"].reserved) == (
        3,
        0.1,
    )


def test_no_setting_is_taken_for_a_variable_of_kubernetes() -> None:
    for known in Settings.fields():
        variable = environment_name(known.name.replace("*", "free"))
        assert setting_of(variable) == known.name.replace("*", "free")
        for value in ("1", "10.0.0.1", "/x", "a"):
            assert not is_injected(variable, value)
