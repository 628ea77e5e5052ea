"""The command `tidegate` as its users call it: output, errors, exit codes and signals."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.support.net import free_port, wait_until
from tests.support.process import ROOT, Process, get
from tests.support.raw import TEXT
from tests.support.tokens import SECRET, bearer
from tests.support.tokens import token as make_token

COMMAND = Path(sys.executable).with_name("tidegate")
ADMIN_TOKEN = "a-token-of-the-operator"

Result = subprocess.CompletedProcess[str]
STOPPED = '{"error":"shutdown","retryAfter":5}'


@pytest.fixture
def tidegate(tmp_path: Path) -> Callable[..., Result]:
    """Runs a command to its end, in an empty directory."""

    def run(*arguments: object, stdin: str = "", **environment: str) -> Result:
        own = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("TIDEGATE_") and key not in ("PORT", "COLUMNS", "FORCE_COLOR")
        }
        return subprocess.run(
            [COMMAND, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**own, **environment},
            timeout=20,
        )

    return run


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", free_port())) as other:
        yield other.getsockname()[1]


def failed(result: Result, code: int, said: str) -> None:
    """It ended with this code and one line that says why."""
    assert result.returncode == code, result.stderr
    assert result.stdout == ""
    line, *rest = result.stderr.splitlines()
    assert rest == []
    assert line.startswith("tidegate: ")
    assert said in line


# The command itself.


def test_version(tidegate: Callable[..., Result]) -> None:
    from importlib.metadata import version

    assert tidegate("--version").stdout.strip() == version("tidegate")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--help",), ("serve", "config", "token", "--set limits.per_ip=5", "Exit codes")),
        ((), ("serve", "config", "token")),
        (("serve", "--help"), ("--config", "--host", "--port", "--set", "--log-format")),
        (("config", "--help"), ("default", "show", "check")),
        (("token", "--help"), ("create", "check")),
        (("token", "create", "--help"), ("--user", "--expires", "TIDEGATE_AUTH_SECRET")),
        (("token", "check", "--help"), ("standard input", "TIDEGATE_AUTH_SECRET")),
    ],
)
def test_help(
    tidegate: Callable[..., Result], arguments: tuple[str, ...], said: tuple[str, ...]
) -> None:
    result = tidegate(*arguments)
    assert result.returncode == 0
    for words in said:
        assert words in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("serv",), 'Did you mean "serve"?'),
        (("serve", "--bogus"), "--bogus"),
        (("serve", "extra"), "extra"),
        (("serve", "--set"), "--set"),
        (("serve", "--log-format", "xml"), 'log.format = "xml" (--log-format): must be one of'),
        (("serve", "--log-level", "loud"), 'log.level = "loud" (--log-level): must be one of'),
        (("serve", "--port", "99999"), "server.port = 99999 (--port): must be a whole number"),
        (("serve", "--host", "a b"), 'server.host = "a b" (--host): must be a host name'),
        (("serve", "--set", "limits.per_ip"), "must be section.key=value"),
        (("serve", "--set", "limits.perip=1"), "did you mean limits.per_ip"),
        (("serve", "--config", "missing.toml"), "missing.toml: the file cannot be read"),
        (("serve", "--set", "admin.host=0.0.0.0"), "admin.token: must be set, because admin.host"),
        (("serve", "--set", "tls.key=k", "--set", "tls.certificate=c"), "tls.certificate = "),
        (("config", "check", "missing.toml"), "missing.toml: the file cannot be read"),
        (("token", "create"), "USER is missing. See `tidegate token create --help`"),
        (("token", "create", "ann", "--expires"), "--expires requires an argument. See"),
        (("token", "create", "ann", "--expires=1y"), "--expires 1y: must be a number"),
        (("drain", "--window", "-5m"), "--window -5m: must be a number from 0 to 3,600 seconds"),
        (("drain", "--window", "2h"), "--window 2h: must be a number from 0 to 3,600 seconds"),
        (("drain", "--timeout", "soon"), "--timeout soon: must be a number"),
        (("drain", "--timeout", "5s", "--no-wait"), "--no-wait"),
        (("drain", "--admin", "ftp://a"), "--admin ftp://a: must be like 127.0.0.1:8001"),
        (("token", "create", "--user", "ann"), "auth.secret is not set"),
    ],
)
def test_wrong_usage_and_wrong_settings_exit_with_2(
    tidegate: Callable[..., Result], arguments: tuple[str, ...], said: str
) -> None:
    failed(tidegate(*arguments), 2, said)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TIDEGATE_LIMITS_PER_IP", "many", 'limits.per_ip = "many" (TIDEGATE_LIMITS_PER_IP): must'),
        ("TIDEGATE_LIMIT_PER_IP", "1", "did you mean TIDEGATE_LIMITS_PER_IP"),
        ("PORT", "http", 'server.port = "http" (PORT): must be a whole number'),
        ("TIDEGATE_CONFIG", "missing.toml", "missing.toml: the file cannot be read"),
    ],
)
def test_wrong_environment_exits_with_2(
    tidegate: Callable[..., Result], variable: str, value: str, said: str
) -> None:
    failed(tidegate("serve", **{variable: value}), 2, said)


def test_all_mistakes_are_told_at_once(tidegate: Callable[..., Result]) -> None:
    result = tidegate(
        *("serve", "--set", "limits.perip=1", "--port", "http"), TIDEGATE_LIMITS_PER_USER="-1"
    )
    assert result.returncode == 2
    starts = ("--set limits.perip: ", 'server.port = "http" (--port): ', "limits.per_user = -1 (")
    for line, start in zip(result.stderr.splitlines(), sorted(starts), strict=True):
        assert any(line.startswith(f"tidegate: {each}") for each in starts), (line, start)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("config default", 1),
        ("config show", 1),
        ("config check", 1),
        ("token create ann", 1),
        ("--help", 1),
        ("serve --help", 1),
        ("--version", 1),
    ],
)
def test_a_full_disk_is_one_line_and_exit_code_1(
    tidegate: Callable[..., Result], command: str, code: int
) -> None:
    done = subprocess.run(
        f"{COMMAND} {command} >/dev/full",
        shell=True,
        capture_output=True,
        text=True,
        timeout=20,
        env={"PATH": os.environ["PATH"], "TIDEGATE_AUTH_SECRET": SECRET},
    )
    line = "tidegate: standard output cannot be written: No space left on device\n"
    assert done.stderr.removeprefix("warning: ").endswith(line)
    assert "Traceback" not in done.stderr
    assert done.returncode == code


def test_an_error_that_cannot_be_written_leaves_its_exit_code() -> None:
    done = subprocess.run(f"{COMMAND} serve --bogus 2>/dev/full", shell=True, timeout=20)
    assert done.returncode == 2


def test_help_of_the_whole_names_every_command_with_its_first_sentence(
    tidegate: Callable[..., Result],
) -> None:
    said = " ".join(tidegate("--help", COLUMNS="200").stdout.split())
    for sentence in (
        "Run the server until SIGTERM, which drains it",
        "Drain a running server, and wait until it has ended.",
        "Ask a running server what its gate would decide",
        "Write a short file of settings with fresh secrets",
    ):
        assert sentence in said


# init


def test_init_writes_a_file_that_serve_reads(
    tidegate: Callable[..., Result], tmp_path: Path
) -> None:
    done = tidegate("init")
    assert (done.returncode, done.stderr) == (0, "")
    file = tmp_path / "tidegate.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    checked = tidegate("config", "check")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"{file}: the settings are valid\n"
    token = tidegate("token", "create", "ann")
    assert tidegate("token", "check", stdin=token.stdout).returncode == 0
    shown = tidegate("config", "show").stdout
    assert "tidegate.toml:" in shown


def test_init_refuses_to_overwrite(tidegate: Callable[..., Result], tmp_path: Path) -> None:
    assert tidegate("init", "a.toml").returncode == 0
    (tmp_path / "a.toml").chmod(0o644)
    before = (tmp_path / "a.toml").read_text()
    failed(tidegate("init", "a.toml"), 1, "a.toml exists already; --force replaces it")
    assert (tmp_path / "a.toml").read_text() == before
    assert tidegate("init", "a.toml", "--force").returncode == 0
    assert (tmp_path / "a.toml").read_text() != before
    assert (tmp_path / "a.toml").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]


def test_init_replaces_a_link_and_not_what_it_leads_to(
    tidegate: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "a.toml").symlink_to("nowhere")
    failed(tidegate("init", "a.toml"), 1, "a.toml exists already")
    assert tidegate("init", "a.toml", "--force").returncode == 0
    assert not (tmp_path / "a.toml").is_symlink()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere/a.toml",), "nowhere/a.toml cannot be written: No such file or directory"),
        ((".",), ". exists already"),
        ((".", "--force"), ". is not a file"),
        (("/dev/full", "--force"), "/dev/full is not a file"),
    ],
)
def test_init_where_it_cannot_write(
    tidegate: Callable[..., Result], arguments: tuple[str, ...], said: str
) -> None:
    failed(tidegate("init", *arguments), 1, said)


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    result = subprocess.run(
        f"{COMMAND} config default | true", shell=True, capture_output=True, text=True, timeout=20
    )
    assert result.stderr == ""


# config


def test_the_default_file_is_one_to_start_from(
    tidegate: Callable[..., Result], tmp_path: Path
) -> None:
    default = tidegate("config", "default")
    assert default.returncode == 0
    (tmp_path / "tidegate.toml").write_text(default.stdout)
    checked = tidegate("config", "check", "tidegate.toml")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == "tidegate.toml: the settings are valid\n"


def test_show_says_what_is_in_force_and_why(
    tidegate: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "a.toml").write_text("[limits]\nper_ip = 1\nper_user = 1\nper_room = 1\n")
    result = tidegate(
        *("config", "show", "--config", "a.toml", "--set", "limits.per_room=3"),
        TIDEGATE_LIMITS_PER_USER="2",
        TIDEGATE_LIMITS_PER_ROOM="2",
        TIDEGATE_AUTH_SECRET=SECRET,
        PORT="9000",
    )
    assert result.returncode == 0, result.stderr
    found = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert found["limits.per_ip"].split() == ["1", "a.toml:2"]
    assert found["limits.per_user"].split() == ["2", "TIDEGATE_LIMITS_PER_USER"]
    assert found["limits.per_room"].split() == ["3", "--set"]
    assert found["limits.connections"].split() == ["10000", "default"]
    assert found["server.port"].split() == ["9000", "PORT"]
    assert found["auth.secret"].split() == ['"********"', "TIDEGATE_AUTH_SECRET"]
    assert SECRET not in result.stdout


def test_check_names_the_line_and_warns(tidegate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("[limits]\nper_ip = -1\n")
    failed(tidegate("config", "check", "wrong.toml"), 2, "limits.per_ip = -1 (wrong.toml:2): must")
    (tmp_path / "public.toml").write_text('[server]\nhost = "0.0.0.0"\n')
    public = tidegate("config", "check", "public.toml")
    assert public.returncode == 0
    assert public.stderr.startswith("warning: anonymous clients may connect from anywhere")


# token


def test_a_token_is_created_and_checked(tidegate: Callable[..., Result]) -> None:
    created = tidegate(
        *("token", "create", "--user", "ann", "--tier", "pro", "--priority", "7"),
        *("--expires", "15m"),
        TIDEGATE_AUTH_SECRET=SECRET,
    )
    assert (created.returncode, created.stderr) == (0, "")
    for result in (
        tidegate("token", "check", stdin=created.stdout, TIDEGATE_AUTH_SECRET=SECRET),
        tidegate("token", "check", created.stdout.strip(), TIDEGATE_AUTH_SECRET=SECRET),
    ):
        assert result.returncode == 0, result.stderr
        claims = json.loads(result.stdout)
        assert (claims["sub"], claims["tier"], claims["priority"]) == ("ann", "pro", 7)
        assert claims["exp"] - claims["iat"] == 900
        assert SECRET not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("", "token not valid"),
        ("nonsense", "token not valid: it is malformed"),
        (make_token("ann", expires_in=-10), "token expired"),
        (make_token("ann")[:-4] + "AAAA", "token not valid: the signature does not match"),
    ],
)
def test_a_token_that_is_not_accepted_exits_with_1(
    tidegate: Callable[..., Result], token: str, said: str
) -> None:
    result = tidegate("token", "check", stdin=f"{token}\n", TIDEGATE_AUTH_SECRET=SECRET)
    failed(result, 1, said)
    assert not token or token not in result.stderr


def test_a_user_may_be_named_without_the_option(tidegate: Callable[..., Result]) -> None:
    created = tidegate("token", "create", "ann", TIDEGATE_AUTH_SECRET=SECRET)
    checked = tidegate("token", "check", stdin=created.stdout, TIDEGATE_AUTH_SECRET=SECRET)
    assert json.loads(checked.stdout)["sub"] == "ann"


@pytest.mark.parametrize("expires", [["--expires", "-5m"], ["--expires=-1d"], ["--expires", "0"]])
def test_a_token_may_have_expired(tidegate: Callable[..., Result], expires: list[str]) -> None:
    created = tidegate("token", "create", "ann", *expires, TIDEGATE_AUTH_SECRET=SECRET)
    assert (created.returncode, created.stderr) == (0, "")
    checked = tidegate("token", "check", stdin=created.stdout, TIDEGATE_AUTH_SECRET=SECRET)
    failed(checked, 1, "expired")


@pytest.mark.parametrize("expires", ["1y", "", "h", "1h30m", "inf", "1e9", "1MiB"])
def test_an_expiry_that_is_none(tidegate: Callable[..., Result], expires: str) -> None:
    result = tidegate(
        *("token", "create", "--user", "ann", f"--expires={expires}"), TIDEGATE_AUTH_SECRET=SECRET
    )
    failed(result, 2, "--expires")


# serve


def test_the_start_says_where_and_what(serve: Start) -> None:
    server = serve({"limits": {"per_ip": 7}, "tiers": {"free": {"per_user": 2}}})
    assert f"ws://127.0.0.1:{server.port}/ws\n" in server.log
    assert f"http://127.0.0.1:{server.port}/health" in server.log
    assert f"http://127.0.0.1:{server.admin_port}/metrics" in server.log
    assert "10,000 connections, 2,000 new ones a second, 7 per IP, 10 per user, " in server.log
    assert "free: 2 per user" in server.log
    assert "anonymous; tokens are not accepted" in server.log
    assert "warning" not in server.log


def test_options_go_before_the_environment_and_that_before_the_file(program: Start) -> None:
    wanted = free_port()
    server = program(
        f"-m tidegate serve --port {wanted} --set limits.per_ip=3",
        {"server": {"port": free_port()}, "limits": {"per_ip": 1, "per_user": 1}},
        port=wanted,
        environment={
            "PORT": str(free_port()),
            "TIDEGATE_LIMITS_PER_IP": "2",
            "TIDEGATE_LIMITS_PER_USER": "2",
        },
    )
    assert "3 per IP, 2 per user" in server.log


def test_the_start_says_which_file_and_variables_are_in_force(
    program: Start, tmp_path: Path
) -> None:
    server = program(
        "-m tidegate serve --set limits.per_ip=3",
        environment={
            "TIDEGATE_LIMITS_PER_USER": "2",
            "TIDEGATE_LIMITS_PER_ROOM": "",
            "TIDEGATE_SERVICE_HOST": "10.96.0.7",
            "TIDEGATE_PORT": "tcp://10.96.0.7:8000",
        },
    )
    said = "settings  .*/tidegate-\\d+.toml, TIDEGATE_LIMITS_PER_USER, --set limits.per_ip\n"
    assert re.search(said, server.log)
    assert "ignored  TIDEGATE_PORT, TIDEGATE_SERVICE_HOST (of Kubernetes or Docker)\n" in server.log


def test_a_level_of_the_log_leaves_out_what_is_less_important(program: Start) -> None:
    server = program("-m tidegate serve --log-level error --set server.host=0.0.0.0")
    assert server.stop() == 0
    assert "warning" not in server.log
    assert "stopped" not in server.log


def test_a_platform_s_port(serve: Start) -> None:
    port = free_port()
    serve({"server": {"port": free_port()}}, port=port, environment={"PORT": str(port)})


def test_json_logs(program: Start) -> None:
    server = program("-m tidegate serve --log-format json --set server.host=0.0.0.0")
    assert server.stop() == 0
    events = [json.loads(line) for line in server.lines]
    assert [event["event"] for event in events if event["level"] == "info"] == [
        "started",
        "stopping",
        "stopped",
    ]
    assert events[0]["websocket"] == f"ws://0.0.0.0:{server.port}/ws"
    assert "anonymous clients may connect from anywhere" in str(events)


def test_warnings_at_the_start(program: Start) -> None:
    def few_descriptors() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))

    server = program(
        "-m tidegate serve --set server.host=0.0.0.0",
        {"limits": {"connections": 1000}},
        prepare=few_descriptors,
    )
    wait_until(lambda: server.log.count(" warning ") == 2, what="two warnings")
    assert "anonymous clients may connect from anywhere" in server.log
    assert "the file descriptor limit of 200 is too low for limits.connections = 1000" in server.log
    usage = server.metrics()["websocket_file_descriptors_used_ratio"]
    for_connections = 150
    assert usage == pytest.approx(server.usage.num_fds() / for_connections, abs=0.01)


@pytest.mark.parametrize("listener", ["server", "admin"])
def test_an_address_in_use_exits_with_1(
    tidegate: Callable[..., Result], taken: int, listener: str
) -> None:
    ports = {"server.port": free_port(), "admin.port": free_port(), f"{listener}.port": taken}
    options = [f"--set={name}={port}" for name, port in ports.items()]
    result = tidegate("serve", *options)
    failed(result, 1, f"listen on 127.0.0.1 port {taken}: Address already in use")


@pytest.mark.parametrize("setting", ["server.host", "admin.host"])
def test_an_address_that_is_not_ours_exits_with_1(
    tidegate: Callable[..., Result], setting: str
) -> None:
    options = ("--set=server.port=0", "--set=admin.port=0", f"--set=admin.token={ADMIN_TOKEN}")
    failed(tidegate("serve", *options, f"--set={setting}=192.0.2.1"), 1, "listen on 192.0.2.1")
    unknown = tidegate("serve", *options, f"--set={setting}=nowhere.invalid")
    failed(unknown, 1, "nowhere.invalid")


@pytest.mark.parametrize(
    ("number", "settings", "code", "said", "event"),
    [
        (signal.SIGINT, {}, 1001, STOPPED, "stopping"),
        (signal.SIGTERM, {"on_sigterm": False}, 1001, STOPPED, "stopping"),
        (signal.SIGTERM, {}, 1012, '{"error":"drained","retryAfter":0}', "draining"),
    ],
)
def test_a_signal_closes_every_connection_and_exits_with_0(
    serve: Start, number: signal.Signals, settings: Any, code: int, said: str, event: str
) -> None:
    server = serve({"drain": settings})
    with server.connect() as client:
        client.open()
        server.signal(number)
        assert client.closed(code).reason == said
        client.send_close(code)
        assert server.process.wait(20) == 0
    assert f"{event} connections=1" in server.log
    assert server.log.rstrip().endswith("stopped")


def test_the_deadline_holds_for_peers_that_do_not_answer(serve: Start) -> None:
    server = serve({"server": {"shutdown_timeout": 0.5, "close_timeout": 30}})
    with server.connect() as client:
        client.open()
        start = time.monotonic()
        server.signal(signal.SIGINT)
        assert server.process.wait(10) == 0
        assert 0.4 < time.monotonic() - start < 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(serve: Start, number: signal.Signals) -> None:
    server = serve({"server": {"shutdown_timeout": 60, "close_timeout": 60}})
    with server.connect() as client:
        client.open()
        server.signal(signal.SIGINT)
        client.closed(1001)
        server.signal(number)
        assert server.process.wait(20) == -number


def test_the_admin_listener_ends_last(serve: Start) -> None:
    server = serve({"server": {"shutdown_timeout": 60, "close_timeout": 60}})
    with server.connect() as client:
        client.open()
        server.signal(signal.SIGINT)
        client.closed(1001)
        status, body = server.get("/ready")
        assert (status, body["ready"]) == (503, False)
        assert server.open() == 1
        client.send_close(1001)
        assert server.process.wait(20) == 0


# The admin API of the real process.


def test_the_list_of_connections(serve: Start) -> None:
    server = serve({"auth": {"secret": SECRET}, "tiers": {"pro": {"per_user": 5}}})
    with server.connect() as ann, server.connect() as guest:
        ann.open(
            headers=[bearer("ann", tier="pro"), ("Sec-WebSocket-Protocol", "tidegate.v1.json")]
        )
        ann.message()
        ann.send_frame(TEXT, json.dumps({"type": "join", "room": "blue", "id": "1"}))
        ann.message()
        guest.open()
        server.wait_open(2)
        rows = server.connections()
        assert [row["user"] for row in rows] == ["ann", None]
        first: dict[str, Any] = rows[0]
        assert (first["tier"], first["address"], first["rooms"]) == ("pro", "127.0.0.1", ["blue"])
        assert first["buffered"] == 0
        assert 0 <= first["idle"] <= first["age"] < 10
        numbers = [row["number"] for row in rows]

        def listed(query: str) -> list[int]:
            return [row["number"] for row in server.connections(query)]

        assert listed("room=blue") == listed("user=ann") == listed("limit=1") == numbers[:1]
        assert listed(f"limit=1&after={numbers[0]}") == numbers[1:]
        assert listed("ip=127.0.0.1") == numbers
        assert listed("ip=127.0.0.2") == []
        assert server.get("/connections?limit=none")[0] == 400
    server.wait_open(0)
    assert server.get("/connections")[1] == {"connections": [], "next": None}


def test_the_metrics_follow(serve: Start) -> None:
    server = serve({"limits": {"per_ip": 1, "connections": 4}})
    with server.connect() as first, server.connect() as second:
        first.open(headers=[("Sec-WebSocket-Protocol", "tidegate.v1.json")])
        first.message()
        assert second.ask().status == 429
        found = server.metrics()
        assert found['websocket_connections_current{state="open"}'] == 1
        assert found['websocket_connections_total{result="accepted"}'] == 1
        assert found['websocket_connections_total{result="rejected"}'] == 1
        assert found['websocket_rejections_total{reason="ip_limit"}'] == 1
        assert found["websocket_utilization_ratio"] == 0.25
        assert found["websocket_messages_sent_total"] == 1
        assert found["websocket_handshake_duration_seconds_count"] >= 1
        first.send_close()
        first.gone()
    server.wait_open(0)
    found = server.metrics()
    assert found['websocket_disconnections_total{reason="normal"}'] == 1
    assert found["websocket_connections_peak"] == 1
    assert found["websocket_connection_duration_seconds_count"] == 1
    assert 0 < found["websocket_file_descriptors_used_ratio"] < 1


def test_labels_stay_the_same_whatever_peers_send(serve: Start) -> None:
    server = serve()

    def labels() -> set[str]:
        # What the test itself asks of the server API comes with its route.
        return {
            name
            for name in server.metrics()
            if "{" in name and not name.startswith("tidegate_admin_")
        }

    # The last signal that gets a first value, and with it a label.
    wait_until(lambda: 'websocket_pressure{signal="cpu"}' in labels())
    before = labels()
    for number in range(20):
        with server.connect() as client:
            client.open(headers=[("Sec-WebSocket-Protocol", "tidegate.v1.json")])
            client.send_frame(TEXT, json.dumps({"type": f"made_up_{number}", "room": "x"}))
            client.send_close(4000 + number, f"reason {number}")
            client.gone()
        with server.connect() as client:
            assert client.ask(path=f"/path-{number}").status == 404
    server.wait_open(0)
    assert labels() == before


def test_the_admin_token(serve: Start) -> None:
    server = serve({"admin": {"host": "0.0.0.0", "token": ADMIN_TOKEN}})
    assert server.get("/stats")[0] == 401
    assert server.get("/stats", "wrong")[0] == 401
    assert server.get("/stats", ADMIN_TOKEN)[0] == 200
    assert server.get("/ready")[0] == 200
    assert ADMIN_TOKEN not in server.log


def test_no_admin_listener(serve: Start) -> None:
    server: Process = serve({"admin": {"enabled": False}}, admin=False)
    with pytest.raises(ConnectionRefusedError):
        server.get("/ready")
    assert get(server.port, "/health") == (200, {"status": "ok"})
    wait_until(lambda: re.search(r"admin +off", server.log), 20, "the banner says so")


# The reference pages.


def test_the_reference_follows_from_the_code() -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tools" / "generate.py", "--check"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
