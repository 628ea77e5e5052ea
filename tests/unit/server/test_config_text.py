from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tidegate.core.settings import Settings
from tidegate.server.config import load
from tidegate.server.config_text import (
    default_toml,
    effective,
    in_force,
    starting_toml,
    toml_value,
)


def test_the_default_file_loads_as_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text(default_toml())
    loaded = load(file)
    assert loaded.settings == Settings()
    assert set(loaded.sources) == {
        known.name
        for known in Settings.fields()
        if known.default is not None and "*" not in known.section and not known.sections
    }


def test_the_default_file_explains_every_setting() -> None:
    lines = default_toml().splitlines()
    for known in Settings.fields():
        comment = next(line for line in lines if line.startswith(f"# {known.doc}"))
        assert re.match(rf"(# )?{known.key} =", lines[lines.index(comment) + 1])
        assert comment.endswith(f"[{known.unit}]" if known.unit else known.doc)


def test_the_default_file_with_every_line_in_use_has_every_setting() -> None:
    text = re.sub(r"^# (?=[a-z_]+ =|\[)", "", default_toml(), flags=re.MULTILINE)
    data = tomllib.loads(re.sub(r" =$", " = 1", text, flags=re.MULTILINE))
    data["tiers.*"] = data.pop("tiers")["free"]
    found = {f"{section}.{key}" for section, values in data.items() for key in values}
    assert found == {known.name for known in Settings.fields()}


def test_effective_settings_come_with_their_sources() -> None:
    secret = "0123456789abcdef0123456789abcdef"
    loaded = load(
        None,
        {"TIDEGATE_LIMITS_PER_IP": "5", "TIDEGATE_AUTH_SECRET": secret},
        [("--set", "tiers.free.per_user=2"), ("--host", "server.host=::1")],
    )
    rows = {row.name: (row.value, row.source) for row in effective(loaded)}
    assert rows["limits.per_ip"] == ("5", "TIDEGATE_LIMITS_PER_IP")
    assert rows["limits.per_user"] == ("10", "default")
    assert rows["tiers.free.per_user"] == ("2", "--set")
    assert rows["tiers.free.connections"] == ("not set", "default")
    assert rows["server.host"] == ('["::1"]', "--host")
    assert rows["auth.secret"] == ('"********"', "TIDEGATE_AUTH_SECRET")
    assert rows["admin.token"] == ("not set", "default")
    assert rows["auth.keys"] == ("[]", "default")
    assert secret not in str(rows)


def test_effective_keys_of_a_list_are_masked_and_come_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text(
        '[[auth.keys]]\nkid = "a"\nalgorithm = "HS256"\n'
        'secret = "0123456789abcdef0123456789abcdef"\n'
        "[auth]\nleeway = 1\n"
    )
    rows = {row.name: (row.value, row.source) for row in effective(load(file))}
    assert rows["auth.keys"] == ('"********"', f"{file}:1")
    assert rows["auth.leeway"] == ("1.0", f"{file}:6")


@pytest.mark.parametrize("value", [(), ("a", 'b"\n\\é'), "", True, False, 0, 1.5, 1e22, 1 << 40])
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    found = tomllib.loads(f"x = {toml_value(value)}")["x"]
    assert found == (list(value) if isinstance(value, tuple) else value)


def test_in_force_names_the_file_the_variables_and_the_options(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("[limits]\nper_ip = 1\nper_user = 1\n[server]\nport = 1\n")
    loaded = load(
        file,
        {"TIDEGATE_LIMITS_PER_USER": "2", "TIDEGATE_SERVER_PORT": "2", "PORT": "9"},
        [("--set", "drain.window=5s"), ("--port", "server.port=3")],
    )
    assert in_force(loaded) == f"{file}, TIDEGATE_LIMITS_PER_USER, --port, --set drain.window"
    assert in_force(load()) == "no file"


def test_the_starting_file_has_fresh_secrets_and_asks_for_tokens(tmp_path: Path) -> None:
    first, second = starting_toml(), starting_toml()
    secrets = re.findall(r'"([\w-]{43})"', first + second)
    assert len(set(secrets)) == 4
    assert len(first.splitlines()) <= 20
    (tmp_path / "a.toml").write_text(first)
    settings = load(tmp_path / "a.toml").settings
    assert not settings.auth.anonymous
    assert settings.auth.secret in secrets
    assert settings.admin.token in secrets
