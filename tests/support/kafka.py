"""A real Kafka broker. It is no Python package: `kafka_jars` gets its jars with Maven."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.certificates import combined
from tests.support.kafka_jars import jars
from tests.support.net import free_port, wait_until

__all__ = ["Kafka", "kafka"]


def needs_kafka() -> None:
    """Skip the test where there is no Kafka; with CI=true it fails."""
    if not jars():
        problem = "no jars of Kafka: it needs java, and mvn or TIDEGATE_TEST_KAFKA"
        if os.environ.get("CI") == "true":
            pytest.fail(problem)
        pytest.skip(problem)


_CONFIG = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config={plain} required user_ann="very-secret";
listener.name.secure.scram-sha-256.sasl.jaas.config={scram} required;
listener.name.secure.scram-sha-512.sasl.jaas.config={scram} required;
ssl.keystore.type=PEM
ssl.keystore.location={pem}
log.dirs={folder}/data
num.partitions=3
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
"""

_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
_SCRAM_USERS = {"bob": "SCRAM-SHA-256", "cid": "SCRAM-SHA-512"}

# One processor may be all that there is: no threads to compile and collect beside the program.
_JAVA = ("-Xmx300m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Kafka:
    """One broker on a port of its own, which it keeps over restarts, as it does its data."""

    def __init__(self, folder: Path) -> None:
        needs_kafka()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = folder / "server.properties"
        self.secure, pem = free_port(), combined(folder)
        config.write_text(
            _CONFIG.format(
                port=self.port,
                secure=self.secure,
                controller=free_port(),
                folder=folder,
                pem=pem,
                plain=_PLAIN,
                scram=_SCRAM,
            )
        )
        self._java = ["java", *_JAVA, "-cp", f"{jars()}/*"]
        self._config = str(config)
        self._process: subprocess.Popen[bytes] | None = None
        self._format()
        self.start()

    def _format(self) -> None:
        tool = ["kafka.tools.StorageTool", "format", "-t", "Tm90QVJlYWxDbHVzdGVyMQ", "-c"]
        users: list[str] = []
        for user, mechanism in _SCRAM_USERS.items():
            users += ("--add-scram", f"{mechanism}=[name={user},password=very-secret]")
        subprocess.run(
            [*self._java, *tool, self._config, *users], check=True, capture_output=True, timeout=60
        )

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def login(self, user: str, password: str, sasl: str = "") -> str:
        """The URL of one who logs in over TLS with `very-secret`.

        `ann` may by PLAIN alone, `bob` by SCRAM-SHA-256 and `cid` by SCRAM-SHA-512.
        """
        options = f"ca={self.folder / 'certificate.pem'}"
        if sasl:
            options += f"&sasl={sasl}"
        return f"kafka+tls://{user}:{password}@127.0.0.1:{self.secure}?{options}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java, "kafka.Kafka", self._config],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        wait_until(self._answers, 60, "Kafka answers")

    def kill(self) -> None:
        """Kill it as the kernel does when memory is short."""
        self._end(signal.SIGKILL)

    def forget(self) -> None:
        """Throw its data away; it is not running."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        self._format()

    def freeze(self) -> None:
        """Let it do nothing; its connections stay."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # not all threads stop at once

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(60)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5):
                return True
        except OSError:
            time.sleep(0.1)
            return False


@contextmanager
def kafka(folder: Path) -> Iterator[Kafka]:
    """One that ends with the block."""
    server = Kafka(folder)
    try:
        yield server
    finally:
        server.kill()
