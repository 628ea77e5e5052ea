"""From a URL to how a client of Kafka connects, and why it cannot.

kafka://[user:password@]host[:port][,host[:port]][?sasl=SCRAM-SHA-512]
kafka+tls://...[?ca=/path/of/ca.pem]
"""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from tidegate.errors import BackplaneError, ConfigError

__all__ = ["client_options", "reason_of", "tell_why", "unreachable"]

_PORT: Final = 9092


def client_options(url: str, name: str) -> dict[str, Any]:
    """Return how a client of Kafka connects.

    Args:
        url: valid by the settings.
        name: of the setting that it is of.

    Raises:
        ConfigError: aiokafka is missing, or the file of the URL cannot be read.
    """
    try:
        import aiokafka  # noqa: F401
    except ImportError:
        problem = "Kafka needs aiokafka: pip install 'tidegate[kafka]'"
        raise ConfigError(f"{name}: {problem}") from None
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    options = {option: values[-1] for option, values in parse_qs(parts.query).items()}
    tls = parts.scheme == "kafka+tls"
    servers = [
        host if urlsplit(f"//{host}").port else f"{host}:{_PORT}" for host in hosts.split(",")
    ]
    made: dict[str, Any] = {"bootstrap_servers": servers}
    if tls:
        try:
            made["ssl_context"] = ssl.create_default_context(cafile=options.get("ca"))
        except OSError as error:  # an SSLError is one
            problem = error.strerror or "is not valid"
            raise ConfigError(f"{name}: the file of ca: {problem}") from None
    if credentials:
        user, _, password = credentials.partition(":")
        made |= {
            "security_protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT",
            "sasl_mechanism": options.get("sasl", "PLAIN"),
            "sasl_plain_username": unquote(user),
            "sasl_plain_password": unquote(password),
        }
    elif tls:
        made["security_protocol"] = "SSL"
    return made


async def tell_why(options: dict[str, Any]) -> None:
    """Raise why no server can be used: aiokafka tells it to its log alone.

    Args:
        options: how to connect.
    """
    from aiokafka.client import collect_hosts
    from aiokafka.conn import create_conn

    more = {name: value for name, value in options.items() if name != "bootstrap_servers"}
    for host, port, _ in collect_hosts(options["bootstrap_servers"]):
        connection = await create_conn(host, port, **more)
        connection.close()


def unreachable(error: BaseException) -> BackplaneError:
    """Return what is raised when the servers of the settings cannot be used."""
    return BackplaneError(f"backplane.url: {reason_of(error)}")


def reason_of(error: BaseException) -> str:
    """Return why something failed, in a few words. It has no part of the URL's secrets."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error).rstrip(".") or type(error).__name__
