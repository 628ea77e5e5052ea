from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.cli.main import run
from tidegate.deploy import TARGETS, File

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("TIDEGATE_CONFIG", "PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of this machine that `--install` writes."""
    path = tmp_path / "etc" / "60-tidegate.conf"

    def files(_plan: object) -> list[File]:
        return [File("60-tidegate.conf", "new\n", str(path))]

    target = TARGETS["sysctl"]._replace(files=files)
    monkeypatch.setitem(TARGETS, "sysctl", target)
    return path


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_printed(target: str, capsys: Captured) -> None:
    assert run(["deploy", target]) == 0
    said = capsys.readouterr().out
    assert "tidegate" in said.lower()


def test_one_file_is_printed_as_it_is(capsys: Captured, folder: Path) -> None:
    assert run(["deploy", "grafana"]) == 0
    printed = capsys.readouterr().out
    assert run(["deploy", "grafana", "--out", "out"]) == 0
    assert (folder / "out" / "tidegate.json").read_text() == printed
    assert capsys.readouterr().out == "wrote out/tidegate.json\n"
    assert run(["deploy", "grafana", "--out", "out"]) == 0
    assert capsys.readouterr().out == "nothing to change: all files are there\n"


def test_several_files_are_printed_with_their_names(capsys: Captured) -> None:
    assert run(["deploy", "systemd"]) == 0
    said = capsys.readouterr().out
    names = [line for line in said.splitlines() if line.startswith("# ==>")]
    assert names == [
        "# ==> tidegate.socket <==",
        "# ==> tidegate@.service <==",
        "# ==> tidegate.service <==",
    ]


def test_settings_nodes_and_connections_are_in_the_files(capsys: Captured, folder: Path) -> None:
    (folder / "tidegate.toml").write_text('[proxies]\ntrusted = ["10.0.0.2"]\n')
    arguments = ["--for", "50000", "--node", "10.0.0.5:9000", "--node", "[::1]"]
    assert run(["deploy", "haproxy", *arguments, "--set", "server.host=10.0.0.5"]) == 0
    said = capsys.readouterr()
    assert "server node1 10.0.0.5:9000\n" in said.out
    assert "server node2 [::1]:8000\n" in said.out
    assert "each for 50,000 connections" in said.out
    assert "# 10.0.0.2 (proxies.trusted)" in said.out
    assert said.err == "note: set limits.connections = 50000 in your settings\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "nothing"),
        ([], "TARGET is missing"),
        (["sysctl", "--for", "0"], "--for 0: must be a whole number from 1 to 10,000,000"),
        (["sysctl", "--for", "many"], "--for"),
        (["haproxy", "--node", "a:b"], "--node 'a:b': must be like 10.0.0.5:8000"),
        (["haproxy", "--tls", "chat.pem"], "--tls 'chat.pem': must be the absolute path"),
        (["haproxy", "--tls", "/a b"], "--tls '/a b'"),
        (["docker", "--install"], "files for docker belong to no machine; use --out DIR"),
        (["sysctl", "--install", "--out", "x"], "--install: the files go below /etc or to --out"),
        (["sysctl", "--yes"], "--yes: it is for --install"),
        (["sysctl", "--set", "limits.per_ip=x"], "limits.per_ip"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str, capsys: Captured) -> None:
    assert run(["deploy", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("tidegate: ")


def test_install_writes_where_nobody_has_to_be_asked(machine: Path, capsys: Captured) -> None:
    assert run(["deploy", "sysctl", "--install", "--yes"]) == 0
    assert machine.read_text() == "new\n"
    assert capsys.readouterr().out == f"wrote {machine}\nnext: sysctl --system\n"
    assert run(["deploy", "sysctl", "--install"]) == 0  # nothing to ask about
    assert capsys.readouterr().out == "nothing to change: all files are there\n"


@pytest.mark.parametrize("answer", ["y", "yes", "Y ", "n", "", "maybe"])
def test_install_asks_on_a_terminal(
    answer: str, machine: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.parent.mkdir()
    machine.write_text("theirs\n")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _question: answer)
    agreed = answer.strip().lower() in ("y", "yes")
    assert run(["deploy", "sysctl", "--install"]) == (0 if agreed else 1)
    assert machine.read_text() == ("new\n" if agreed else "theirs\n")
    said = capsys.readouterr()
    assert f"{machine} (what is there now goes to 60-tidegate.conf.before-tidegate)" in said.out
    if not agreed:
        assert said.err == "tidegate: nothing was changed\n"


def test_install_does_not_go_on_where_nobody_can_be_asked(
    machine: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert run(["deploy", "sysctl", "--install"]) == 2
    assert "--yes goes on without asking" in capsys.readouterr().err
    assert not machine.exists()


def test_a_folder_that_cannot_be_written_is_an_error(folder: Path, capsys: Captured) -> None:
    (folder / "file").write_text("")
    assert run(["deploy", "sysctl", "--out", "file"]) == 1
    assert "file/60-tidegate.conf cannot be" in capsys.readouterr().err
