"""Who is in rooms on all nodes, over Valkey or Redis.

A node writes which users it has in a room, and publishes each change to the nodes that have members
there.

    one hash for a room and a node: users, and under '' the number of the last change
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from tidegate.backplane.presence import PRESENCE, FollowedRooms
from tidegate.backplane.redis.link import LinkDownError
from tidegate.backplane.redis.scripts import SCRIPTS
from tidegate.core.messaging.presence import Present

if TYPE_CHECKING:
    from tidegate.backplane.living import LivingNodes
    from tidegate.backplane.presence import Found, Read, RoomChange
    from tidegate.backplane.redis.links import Links
    from tidegate.core.messaging.rules import Rules

__all__ = ["RedisPresence"]

_log = logging.getLogger("tidegate")

_WRITE: Final = SCRIPTS["presence"]
_READ: Final = SCRIPTS["present"]
_KEEP_MS: Final = 900_000  # what a node has, if nobody ever sees that it is gone
_RENEW_SECONDS: Final = 300.0
_MOST_GONE: Final = 1000


_encode = msgspec.msgpack.Encoder().encode
_read_kept = msgspec.msgpack.Decoder(tuple[int, bytes | None]).decode


class RedisPresence(FollowedRooms):
    """Tells the others who is here, and this node who is there.

    Args:
        links: the connections to the server.
        rules: which rooms show who is there.
        living: knows which nodes live.
    """

    def __init__(self, links: Links, rules: Rules, living: LivingNodes) -> None:
        super().__init__(links.node, rules, living, _RENEW_SECONDS)
        self._links = links
        self._gone: dict[str, None] = {}
        living.watch(self._node_gone, self._node_back, self._all_again)
        links.watch(heard=self._all_again, stopped=self._stop)
        links.hear(self._again_of(links.node), lambda _: self._all_again())

    def _ask(self, room: str, done: Read) -> None:
        def answered(answer: Any) -> None:
            done(None if isinstance(answer, Exception) else _parsed(answer), ())

        self._links.run(
            _READ, (self._nodes(room),), self._users(room, ""), *self._gone, answer=answered
        )

    def _send(self, room: str, change: RoomChange) -> None:
        told, number, users, left, whole = change
        kept: list[Any] = []
        for one in users:
            kept += (one.user, _encode((one.devices, one.info)))
        self._links.run(
            _WRITE,
            (self._nodes(room), self._users(room, self._node)),
            self._node,
            number,
            int(whole),
            _KEEP_MS,
            self._links.room(room),
            PRESENCE + told,
            len(left),
            *left,
            *kept,
            answer=_written,
        )

    def _renew_room(self, room: str) -> None:
        for key in (self._nodes(room), self._users(room, self._node)):
            self._links.of(key).ask("PEXPIRE", key, _KEEP_MS, answer=_written)

    def _nodes(self, room: str) -> bytes:
        return self._links.room(room) + b":nodes"

    def _users(self, room: str, node: str) -> bytes:
        return self._links.room(room) + b":at:" + node.encode()

    # Nodes.

    def _node_gone(self, node: str) -> None:
        """A node has left without a word: what it had is deleted with the next look at a room."""
        self._gone[node] = None
        while len(self._gone) > _MOST_GONE:
            del self._gone[next(iter(self._gone))]
        for room in self._receiver.rooms_of(node):
            self._forget_node(room, node)
            followed = self._rooms.get(room)
            if followed is not None:
                self._refresh(room, followed)

    def _node_back(self, node: str) -> None:
        """A node was away for a while: it writes what it has, and says so."""
        if node in self._gone:
            del self._gone[node]
            self._links.publish(self._again_of(node), b"", _written)

    def _again_of(self, node: str) -> bytes:
        return self._links.name("again", node)


def _parsed(answer: Any) -> Found:
    """Return what was read of a room: by node, the number of its last change and its users."""
    found = {}
    for node, pairs in answer:
        number, users = 0, []
        for user, kept in zip(pairs[::2], pairs[1::2], strict=True):
            if user:
                users.append(Present(user.decode(), *_read_kept(kept)))
            else:
                number = int(kept)
        found[node.decode()] = (number, users)
    return found


def _written(answer: Any) -> None:
    if isinstance(answer, Exception) and not isinstance(answer, LinkDownError):
        _log.error("the backplane does not keep who is in rooms: %s", answer)
