"""Settings into a file that a person keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.capacity.writing import write
from tidegate.errors import ConfigError
from tidegate.server.config import load

WANTED = {"limits.connections": 800, "pacing.rate": 400.0, "pacing.burst": 200}
KEPT = """\
# Ours. Do not lose this.
[limits]
connections = 5  # too few
per_ip = 7

[auth]
secret = "a secret of thirty-two bytes, or more"
"""


def test_write_changes_these_settings_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text(KEPT)
    file.chmod(0o640)
    write(file, WANTED)
    text = file.read_text()
    assert text.startswith("# Ours. Do not lose this.\n[limits]\nconnections = 800  # too few\n")
    settings = load(file).settings
    assert (settings.limits.per_ip, settings.limits.connections) == (7, 800)
    assert (settings.pacing.rate, settings.pacing.burst) == (400.0, 200)
    assert settings.auth.secret == "a secret of thirty-two bytes, or more"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["tidegate.toml"]


def test_write_makes_a_file_that_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "new.toml", WANTED)
    assert load(tmp_path / "new.toml").settings.limits.connections == 800


def test_write_follows_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text(KEPT)
    link.symlink_to(real)
    write(link, WANTED)
    assert link.is_symlink()
    assert "connections = 800" in real.read_text()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[limits\n", "this is not TOML"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"limits = 5\n", "limits must be a section"),
    ],
)
def test_write_leaves_a_file_that_it_cannot_read(tmp_path: Path, text: bytes, problem: str) -> None:
    file = tmp_path / "odd.toml"
    file.write_bytes(text)
    with pytest.raises(ConfigError, match=problem):
        write(file, WANTED)
    assert file.read_bytes() == text


def test_write_into_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write(tmp_path / "no" / "file.toml", WANTED)
