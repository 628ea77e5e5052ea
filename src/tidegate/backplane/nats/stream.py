"""The JetStream streams of a fleet: one for the histories of rooms, one for what nodes write down.

All histories are in one stream, each room on a subject of its own. The server keeps the last
batches of a room, each for its time to live, and publishes each again when it has it, on the room's
subject: that is what nodes get. So what they get is what is kept, in its order, and nothing that
the server has refused.

A stream that is there already stays as it is in what is the operator's: storage, replicas,
placement, limits.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from time import monotonic
from typing import Any, Final

import msgspec

from tidegate.backplane.nats.answers import NO_STREAM, Said, read_answer
from tidegate.backplane.nats.link import Link, LinkDownError
from tidegate.backplane.nats.servers import reason_of
from tidegate.backplane.nats.wire import Message
from tidegate.core.messaging.rules import Rules
from tidegate.errors import BackplaneError

__all__ = ["HistoryStream", "Stream"]

_log = logging.getLogger("tidegate")

_AGAIN_SECONDS: Final = 0.5
_NEEDED: Final = (2, 11)  # of the server: a time to live for each message, reads of many at once


class Stream(ABC):
    """Makes a stream, and makes it again when it is lost.

    Args:
        link: the connection.
        name: of the stream.
        replicas: on how many servers a new stream is kept.
        needs: the setting that needs it.
        lacks: what the log says is not kept without it.
    """

    def __init__(self, link: Link, name: str, replicas: int, needs: str, lacks: str) -> None:
        self._link = link
        self._replicas = replicas
        self.name = name
        self._needs = needs
        self._lacks = lacks
        self._task: asyncio.Task[None] | None = None
        self._tried = -_AGAIN_SECONDS
        self._problem = ""

    @abstractmethod
    def wanted(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return what the stream must have, beside what is the operator's.

        Args:
            config: what it has now; empty for a new one.
        """

    async def prepare(self) -> dict[str, Any]:
        """Make the stream, or make it keep as much as it should; return what it has then.

        Raises:
            BackplaneError: the server has no JetStream, or is too old, or does not want to.
        """
        version = str(self._link.info.get("version", ""))
        if _version(version) < _NEEDED:
            raise BackplaneError(
                f"backplane.url: {self._needs} needs NATS 2.11, and this is {version}"
            )
        answer = await self._ask("INFO", {})
        config = answer.get("config")
        if config is None:
            code = answer.get("error", {}).get("err_code")
            if code != NO_STREAM:
                raise _refused(answer)
            new = {"storage": "file", "num_replicas": self._replicas, "max_age": 0}
            answer = await self._ask("CREATE", {**new, "name": self.name, **self.wanted({})})
        else:
            wanted = {**config, **self.wanted(config)}
            if wanted != config:
                answer = await self._ask("UPDATE", wanted)
        if "config" not in answer:
            raise _refused(answer)
        found: dict[str, Any] = answer["config"]
        return found

    def said(self, answer: Message | Exception) -> Said | None:
        """Return what JetStream answers; None when it does not. A lost stream is made again."""
        if isinstance(answer, Exception):
            return None
        if answer.status:
            self.prepare_soon()
            return None
        try:
            said = read_answer(answer.data)
        except msgspec.DecodeError:
            return None
        if said.error is not None and said.error.err_code == NO_STREAM:
            self.prepare_soon()
            return None
        return said

    def prepare_soon(self) -> None:
        """Make it again: it was lost, or has to keep more. One at a time, twice a second."""
        if (self._task is None or self._task.done()) and (
            monotonic() - self._tried >= _AGAIN_SECONDS
        ):
            self._tried = monotonic()
            self._task = asyncio.get_running_loop().create_task(self._try())

    async def stop(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _try(self) -> None:
        try:
            await self.prepare()
        except (BackplaneError, LinkDownError, TimeoutError) as error:
            problem = reason_of(error)
            if problem != self._problem:
                _log.warning("the backplane keeps no %s: %s", self._lacks, problem)
            self._problem = problem
        else:
            self._problem = ""
            self.made()

    def made(self) -> None:  # noqa: B027 - not all want to know
        """It was made again; nothing is to be done where one does not say what."""

    async def _ask(self, what: str, config: dict[str, Any]) -> dict[str, Any]:
        data = msgspec.json.encode(config) if config else b""
        answer = await self._link.request(f"$JS.API.STREAM.{what}.{self.name}", data)
        if answer.status:
            raise BackplaneError(
                f"backplane.url: {self._needs} needs JetStream, which this server has not or "
                "not now (nats-server -js)"
            )
        try:
            return msgspec.json.decode(answer.data, type=dict[str, Any])
        except msgspec.DecodeError:
            raise BackplaneError("backplane.url: JetStream answers what is no JSON") from None


class HistoryStream(Stream):
    """The stream of all histories, and its subjects.

    Args:
        link: the connection.
        prefix: how all subjects begin, and the stream's name.
        rules: how many messages rooms keep.
        replicas: on how many servers a new stream is kept.
    """

    def __init__(self, link: Link, prefix: str, rules: Rules, replicas: int) -> None:
        super().__init__(link, f"{prefix}_kept", replicas, "rooms.rules.history_size", "histories")
        self._rules = rules
        self.kept = f"{prefix}.kept."
        """How the subjects begin that rooms with a history are published on."""
        self.elections = f"$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{self.name}"
        """The subject on which the server says that another one leads the stream now. What the one
        before has kept, it may not have published."""
        self.rooms = f"{prefix}.room."
        """How the subjects begin on which it publishes again what it has taken."""
        self._holds = 0

    def holds(self, size: int) -> bool:
        """Whether so many messages of a room are kept. HOT."""
        return size < self._holds

    async def prepare(self) -> dict[str, Any]:
        """Make the stream, or make it keep as much as the rules say."""
        config = await super().prepare()
        self._holds = int(config["max_msgs_per_subject"])
        return config

    def wanted(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return what the stream must have."""
        holds = max(1 + self._rules.history_size, config.get("max_msgs_per_subject", 0))
        return {
            "subjects": [f"{self.kept}*"],
            "retention": "limits",
            "discard": "old",
            "max_msgs_per_subject": holds,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "republish": {"src": f"{self.kept}*", "dest": f"{self.rooms}{{{{wildcard(1)}}}}"},
        }


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-")[0].split(".") if part.isdigit())


def _refused(answer: dict[str, Any]) -> BackplaneError:
    said = answer.get("error", {}).get("description", "no reason")
    return BackplaneError(f"backplane.url: JetStream refuses the stream: {said}")
