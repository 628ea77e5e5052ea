"""SIGHUP, and certificates that are renewed: what is new is in force, and nobody is cut off."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.conftest import Start
from tests.support.certificates import client_context, make_certificate
from tests.support.crowd import Crowd
from tests.support.net import wait_until
from tests.support.process import Process, to_toml
from tidegate.wire.codecs import JSON_V1

OLD, NEW = "an old secret of 32 bytes or more!", "a new secret of 32 bytes or more!"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {jwt.encode({'sub': 'ann'}, secret)}"}


def served_by(server: Process, certificate: Path) -> bool:
    """Whether new clients get this certificate."""
    context = client_context(certificate)
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
        try:
            context.wrap_socket(plain, server_hostname="localhost").close()
        except ssl.SSLCertVerificationError:
            return False
    return True


class Talk(threading.Thread):
    """A client of the native protocol that talks until it is told to stop.

    It waits between two messages, so a crowd of these leaves time for those that connect.
    """

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._context = context
        self.over = threading.Event()
        self.answers = 0
        self.start()

    def run(self) -> None:
        with connect(
            self._url, ssl=self._context, subprotocols=[Subprotocol(JSON_V1)], proxy=None
        ) as client:
            client.recv(10)
            while not self.over.wait(0.01):
                client.send('{"type": "ping", "id": 1}')
                client.recv(10)
                self.answers += 1


@contextmanager
def talking(url: str, context: ssl.SSLContext, count: int) -> Iterator[list[Talk]]:
    """So many clients that talk all the time."""
    talks = [Talk(url, context) for _ in range(count)]
    try:
        wait_until(lambda: all(talk.answers for talk in talks), 20, "all are connected")
        yield talks
    finally:
        for talk in talks:
            talk.over.set()
        for talk in talks:
            talk.join(10)


def hang_up(server: Process, says: str) -> None:
    before = server.log.count(says)
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.log.count(says) > before, 10, says)


def test_hup_under_load_changes_certificate_limit_and_secret_and_cuts_nobody_off(
    serve: Start, tmp_path: Path
) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    second.mkdir()
    (certificate, key), new = make_certificate(first), make_certificate(second)
    old_certificate = tmp_path / "old.pem"
    old_certificate.write_bytes(certificate.read_bytes())

    def settings(per_ip: int, secret: str) -> dict[str, dict[str, object]]:
        return {
            "limits": {"per_ip": per_ip, "per_user": 1000},
            "messages": {"per_second": 0},
            "auth": {"secret": secret},
            "tls": {"certificate": str(certificate), "key": str(key)},
        }

    crowd = 20
    server = serve(settings(3 + crowd, OLD))
    url = f"wss://127.0.0.1:{server.port}/ws"
    context = client_context(old_certificate)
    with (
        talking(url, context, crowd) as talks,
        connect(url, ssl=context, additional_headers=bearer(OLD), proxy=None) as one,
        connect(url, ssl=context, additional_headers=bearer(OLD), proxy=None) as two,
        connect(url, ssl=context, proxy=None) as three,
    ):
        with pytest.raises(InvalidStatus), connect(url, ssl=context, proxy=None):
            pass
        certificate.write_bytes(new[0].read_bytes())
        key.write_bytes(new[1].read_bytes())
        server.configure(settings(5 + crowd, NEW))
        hang_up(server, "settings reloaded")
        for client in (one, two, three):
            assert client.ping().wait(20)
        new_context = client_context(new[0])
        assert served_by(server, new[0])
        assert not served_by(server, old_certificate)
        with connect(url, ssl=new_context, additional_headers=bearer(NEW), proxy=None):
            with (
                pytest.raises(InvalidStatus) as refused,
                connect(url, ssl=new_context, additional_headers=bearer(OLD), proxy=None),
            ):
                pass
            assert refused.value.response.status_code == 401
            for client in (one, two, three):
                assert client.ping().wait(20)
        heard = [talk.answers for talk in talks]
        wait_until(
            lambda: all(talk.answers > before for talk, before in zip(talks, heard, strict=True)),
            10,
            "all are still answered",
        )


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ({"limits": {"per_ip": -3}}, "the settings were not reloaded"),
        ({}, "tiers.gold"),
    ],
    ids=["a wrong setting", "a tier that is gone"],
)
def test_hup_takes_the_certificate_whatever_the_settings_are(
    serve: Start, tmp_path: Path, after: dict[str, dict[str, object]], says: str
) -> None:
    (tmp_path / "new").mkdir()
    certificate, key = make_certificate(tmp_path)
    new = make_certificate(tmp_path / "new")
    tls: dict[str, object] = {"certificate": str(certificate), "key": str(key)}
    server = serve({"tls": tls, "tiers": {"gold": {"connections": 5}}})
    os.replace(new[0], certificate)
    os.replace(new[1], key)
    server.configure({"tls": tls, **after})
    hang_up(server, "certificate and keys reloaded")
    assert says in server.log
    assert served_by(server, certificate)


def test_hup_with_a_wrong_file_keeps_what_was_and_says_why(serve: Start) -> None:
    server = serve({"limits": {"per_ip": 3}})
    server.configure({"limits": {"per_ip": -3}})
    hang_up(server, "the settings were not reloaded")
    assert "limits.per_ip = -3" in server.log
    server.configure({"limits": {"per_ip": 4}, "server": {"backlog": 17}})
    hang_up(server, "settings reloaded")
    assert "server.backlog" in server.log
    status, body = server.get("/settings")
    assert (status, body["settings"]["limits.per_ip"]["value"]) == (200, 4)


def test_hup_while_a_crowd_talks_disconnects_nobody(serve: Start) -> None:
    server = serve({"limits": {"per_ip": 1000}, "pacing": {"enabled": False}})
    with Crowd(server.port, 200, lambda number: f"room {number % 10}") as crowd:
        for turn in range(30):
            for member in crowd.members[turn::30]:
                crowd.say(member)
            if turn % 10 == 0:
                server.signal(signal.SIGHUP)
            crowd.read(0.02)
        crowd.wait(lambda: all(len(member.acks) == member.said for member in crowd.members), 10)
        assert crowd.left == 200


def test_a_certificate_that_is_renewed_is_taken_up_without_a_signal(
    serve: Start, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    certificate, key = make_certificate(tmp_path)
    new = make_certificate(tmp_path / "new")
    server = serve({"tls": {"certificate": str(certificate), "key": str(key)}})
    # Half of a pair changes nothing.
    os.replace(new[0], certificate)
    wait_until(lambda: "replaced but not taken" in server.log, 15, "it looks at the files")
    assert not served_by(server, certificate)
    os.replace(new[1], key)
    wait_until(lambda: served_by(server, certificate), 15, "the new pair is in force")


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGALRM"])
def test_signals_without_a_meaning_do_nothing(serve: Start, name: str) -> None:
    server = serve()
    server.signal(signal.Signals[name])
    wait_until(lambda: name in server.log, 10, "it says so")
    assert server.get("/health")[0] == 200


def test_sigquit_stops_with_a_close_frame(serve: Start) -> None:
    server = serve()
    with server.connect() as raw:
        raw.open()
        server.signal(signal.SIGQUIT)
        assert json.loads(raw.closed(1001).reason)["error"] == "shutdown"
        raw.send_close(1001)
    assert server.process.wait(10) == 0


@pytest.mark.parametrize(
    ("password", "says"),
    [
        (None, "it is encrypted: set tls.key_password"),
        ("wrong", "tls.key_password is not the password"),
        ("right", None),
    ],
)
def test_an_encrypted_key_never_waits_for_somebody_at_a_terminal(
    program: Start,
    serve: Start,
    tool: Callable[[str], str],
    tmp_path: Path,
    password: str | None,
    says: str | None,
) -> None:
    certificate, key = make_certificate(tmp_path)
    locked = tmp_path / "locked.pem"
    command = [tool("openssl"), "ec", "-aes256", "-passout", "pass:right", "-in", str(key)]
    subprocess.run([*command, "-out", str(locked)], check=True, capture_output=True)
    tls: dict[str, object] = {"certificate": str(certificate), "key": str(locked)}
    if password is not None:
        tls["key_password"] = password
    if says is None:
        assert served_by(serve({"tls": tls}), certificate)
        return
    config = tmp_path / "own.toml"
    config.write_text(to_toml({"tls": tls}))
    began = time.monotonic()
    done = subprocess.run(
        [Path(sys.executable).with_name("tidegate"), "serve", "--config", config],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, time.monotonic() - began < 20) == (2, True)
    assert says in done.stderr
    assert "wrong" not in done.stderr
