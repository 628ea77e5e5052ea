from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tidegate.core.settings import Settings
from tidegate.server.config import load
from tidegate.server.config_text import default_toml, effective, toml_value


def test_the_default_file_loads_as_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text(default_toml())
    loaded = load(file)
    assert loaded.settings == Settings()
    assert set(loaded.sources) == {
        known.name
        for known in Settings.fields()
        if known.default is not None and "*" not in known.section
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
    assert secret not in str(rows)


@pytest.mark.parametrize("value", [(), ("a", 'b"\n\\é'), "", True, False, 0, 1.5, 1e22, 1 << 40])
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    found = tomllib.loads(f"x = {toml_value(value)}")["x"]
    assert found == (list(value) if isinstance(value, tuple) else value)
