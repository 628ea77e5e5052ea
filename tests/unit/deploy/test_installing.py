from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.deploy import File, changes, install
from tidegate.errors import TidegateError


def test_files_go_to_a_folder_with_their_names(tmp_path: Path) -> None:
    (change,) = changes([File("a/b.conf", "new\n", "/etc/b.conf")], tmp_path / "out")
    assert not change.exists
    install(change, keep=False)
    assert (tmp_path / "out/a/b.conf").read_text() == "new\n"
    assert (tmp_path / "out/a/b.conf").stat().st_mode & 0o777 == 0o644
    assert changes([File("a/b.conf", "new\n")], tmp_path / "out") == []


def test_what_was_there_before_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "b.conf"
    path.write_text("theirs\n")
    for text in ("first\n", "second\n"):
        (change,) = changes([File("b.conf", text, str(path))], None)
        assert change.exists
        install(change, keep=True)
        assert path.read_text() == text
    assert sorted(found.name for found in tmp_path.iterdir()) == [
        "b.conf",
        "b.conf.before-tidegate",
    ]
    assert change.kept.read_text() == "theirs\n"


def test_what_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TidegateError, match="cannot be"):
        install(changes([File("file/b.conf", "x\n")], tmp_path)[0], keep=False)
    (tmp_path / "folder").mkdir()
    with pytest.raises(TidegateError, match="cannot be read"):
        changes([File("folder", "x\n")], tmp_path)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "folder"]
