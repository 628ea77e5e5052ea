"""The keys of tokens change while clients are connected: nobody is cut off."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import Start
from tests.support.net import wait_until
from tests.support.process import Process, to_toml

OLD = {"kid": "old", "algorithm": "HS256", "secret": "an old secret of 32 bytes or more!"}
NEW = {"kid": "new", "algorithm": "HS512", "secret": "a new secret of 64 bytes or more" * 2}


def token(key: Mapping[str, str]) -> str:
    claims = {"sub": "ann"}
    return jwt.encode(claims, key["secret"], key["algorithm"], {"kid": key["kid"]})


def status(server: Process, key: Mapping[str, str]) -> int:
    headers = {"Authorization": f"Bearer {token(key)}"}
    try:
        with connect(server.url, additional_headers=headers, proxy=None):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def auth(*keys: Mapping[str, str]) -> dict[str, Any]:
    return {"auth": {"keys": [dict(key) for key in keys], "anonymous": False}}


def patch(server: Process, changes: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.admin_port}/settings",
        json.dumps(changes).encode(),
        {"Content-Type": "application/json"},
        method="PATCH",
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_a_key_is_rotated_by_settings_and_nobody_is_cut_off(serve: Start) -> None:
    server = serve(auth(OLD))
    headers = {"Authorization": f"Bearer {token(OLD)}"}
    with connect(server.url, additional_headers=headers, proxy=None) as client:
        assert (status(server, OLD), status(server, NEW)) == (101, 401)
        changed = {"applied": ["auth.keys"], "restart": []}
        assert patch(server, {"auth": {"keys": [NEW, OLD]}}) == changed
        assert (status(server, OLD), status(server, NEW)) == (101, 101)
        assert patch(server, {"auth": {"keys": [NEW]}}) == changed
        assert (status(server, OLD), status(server, NEW)) == (401, 101)
        assert client.ping().wait(20)
        secrets = (OLD["secret"], NEW["secret"])
        assert not any(secret in str(server.get("/settings")) + server.log for secret in secrets)


def test_a_key_that_leaves_the_file_is_refused_after_hup(serve: Start) -> None:
    server = serve(auth(NEW, OLD))
    headers = {"Authorization": f"Bearer {token(OLD)}"}
    with connect(server.url, additional_headers=headers, proxy=None) as client:
        server.configure(auth(NEW))
        server.signal(signal.SIGHUP)
        wait_until(lambda: "settings reloaded" in server.log, 10, "the settings are reloaded")
        assert (status(server, OLD), status(server, NEW)) == (401, 101)
        # A wrong list changes nothing, and is named without its secrets.
        server.configure(auth(NEW, {**OLD, "secret": "hush"}))
        server.signal(signal.SIGHUP)
        wait_until(lambda: "not reloaded" in server.log, 10, "the settings are refused")
        assert "number 2: secret: must be at least 32 bytes" in server.log
        assert "hush" not in server.log
        assert (status(server, OLD), status(server, NEW)) == (401, 101)
        assert client.ping().wait(20)


def test_the_command_signs_with_the_key_that_is_asked_for(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.toml"
    config.write_text(to_toml(auth(NEW, OLD)))
    command = [str(Path(sys.executable).with_name("tidegate")), "token"]
    cases: list[tuple[str, list[str]]] = [("new", []), ("old", ["--kid", "old"])]
    for kid, options in cases:
        made = subprocess.run(
            [*command, "create", "ann", *options, "--config", str(config)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert jwt.get_unverified_header(made.stdout.strip())["kid"] == kid
        checked = subprocess.run(
            [*command, "check", "--config", str(config)], input=made.stdout, text=True, timeout=20
        )
        assert checked.returncode == 0
