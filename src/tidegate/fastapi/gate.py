"""The gate of a FastAPI application: its limits, its dependencies, its lifespan, its tests."""

from __future__ import annotations

import asyncio
import inspect
import os
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from fastapi import Depends, WebSocket

from tidegate.asgi.hub import Hub, HubStats
from tidegate.asgi.shortcuts import settings_of
from tidegate.core.admission.attempt import Identity
from tidegate.core.codes import NORMAL
from tidegate.core.settings import Settings
from tidegate.core.settings.changes import merged
from tidegate.errors import ConfigError, UsageError
from tidegate.fastapi.member import Member as Admitted
from tidegate.fastapi.routes import Route, RouteLimits, route_of
from tidegate.fastapi.testing import Clock
from tidegate.fastapi.world import Middleware, World
from tidegate.gate.decision import Admit

if TYPE_CHECKING:
    from tidegate.asgi.types import AsgiApp

__all__ = ["Gate"]

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_FILE = "tidegate.toml"


class Gate:
    """Limits, users and rooms for the WebSockets of a FastAPI application.

        gate = Gate(per_ip=20, per_user=5, per_room=50)
        app = FastAPI(lifespan=gate.lifespan)
        app.add_middleware(gate.middleware)

    Args:
        settings: a `Settings`, or a mapping of sections as in a settings file.
        connections: the most connections, in place of `limits.connections`.
        per_ip: the most connections of one address, in place of `limits.per_ip`.
        per_user: the most connections of one user, in place of `limits.per_user`.
        per_room: the most connections in one room, in place of `limits.per_room`.
        backplane: a URL of Valkey or Redis that all processes share, in place of `backplane.url`:
            their limits hold together then, and rooms and users span all of them.

    Raises:
        ConfigError: a setting is wrong.
    """

    Member = Admitted
    """The type of what `member` gives; import `tidegate.fastapi.Member` where types are checked."""

    def __init__(
        self,
        settings: Settings | Mapping[str, Mapping[str, object]] | None = None,
        *,
        connections: int | None = None,
        per_ip: int | None = None,
        per_user: int | None = None,
        per_room: int | None = None,
        backplane: str | None = None,
    ) -> None:
        self.settings = settings_of(
            settings,
            backplane,
            connections=connections,
            per_ip=per_ip,
            per_user=per_user,
            per_room=per_room,
        )
        self._world = World(self.settings, monotonic, time)
        self._limits: dict[Callable[..., Any], RouteLimits] = {}
        self._routes: dict[tuple[Any, Any], Route] = {}

    @classmethod
    def from_settings(cls, file: str | os.PathLike[str] | None = None) -> Gate:
        """Make a gate with the settings of a TOML file.

        Args:
            file: by default the one that `TIDEGATE_CONFIG` names, else `tidegate.toml` here, else
                none: the defaults are in force then.

        Raises:
            ConfigError: the file cannot be read, or a setting is wrong.
        """
        named = os.environ.get("TIDEGATE_CONFIG") if file is None else file
        path = Path(named or _FILE)
        if not named and not path.exists():
            return cls()
        try:
            with path.open("rb") as opened:
                return cls(tomllib.load(opened))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from None

    # What an application plugs in.

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:  # noqa: ARG002 - FastAPI gives it
        """Watch the load while the application runs; at its end, admit no attempt any more.

        With a lifespan of your own, put yours in it:

            @asynccontextmanager
            async def lifespan(app):
                async with gate.lifespan(app), database():
                    yield
        """
        if self._world.local.draining:  # of a lifespan before this one, in tests say
            self._world = World(self.settings, monotonic, time)
        world = self._world
        async with world.local.running():
            yield
            world.drain()
            await world.hub.close()

    def middleware(self, app: AsgiApp) -> Middleware:
        """Return what decides about every WebSocket of an application before that is called.

        Give it to `app.add_middleware`. Without it the limits hold on routes with a `member` only,
        and are looked at after the user is known.
        """
        return Middleware(app, lambda: self._world)

    def member(self, *, user: Callable[..., Any] | None = None) -> Callable[..., Any]:
        """Return a dependency that admits a WebSocket, or refuses it before the endpoint runs.

        Args:
            user: a dependency of your own that says whom the WebSocket belongs to: a text, an
                `Identity`, or None for an anonymous one. Let it take `HTTPConnection`, which is
                both `Request` and `WebSocket`. What it raises, such as an `HTTPException`, refuses
                the attempt. By default it is the user of the token, if there is one.

        Raises:
            UsageError: by the dependency, when `user` returned something else.
        """
        if user is not None and not callable(user):
            raise TypeError(f"user must be a function, not {type(user).__name__}")

        who = Depends(user or _unknown)

        async def admit(websocket: WebSocket, found: Any = who) -> Admitted[Any, Any]:
            identity = None if user is None else _identity(found)
            member = await self._admit(self._world, websocket, identity, admit)
            # FastAPI unwinds this when the endpoint has ended. A dependency with `yield` does the
            # same by it, for 2 KB more a connection.
            stack = websocket.scope.get("fastapi_inner_astack")
            if isinstance(stack, AsyncExitStack):
                stack.push_async_exit(member.leave)
            elif (task := asyncio.current_task()) is not None:
                task.add_done_callback(lambda _: member.left(NORMAL.code))
            return member

        return admit

    async def hub(self) -> Hub:
        """Return the rooms and users; it is a dependency too: `Depends(gate.hub)`."""
        return self._world.hub

    def limit(
        self, *, per_room: int | None = None, messages_per_second: float | None = None
    ) -> Callable[[Endpoint], Endpoint]:
        """Return a decorator that gives one route limits of its own. Put it below the route's.

        Args:
            per_room: the most members of a room that is joined on this route, within the gate's.
            messages_per_second: of one connection, and two seconds' worth at once. What comes too
                early is answered with an error and not taken; `messages.abuse_after` of these
                within 10 s close the connection.

        Raises:
            UsageError: a value is out of its range.
        """
        abuse_after = self.settings.messages.abuse_after
        limits = RouteLimits.of(per_room, messages_per_second, abuse_after)

        def remember(endpoint: Endpoint) -> Endpoint:
            self._limits[endpoint] = limits
            return endpoint

        return remember

    @property
    def ready(self) -> tuple[bool, str]:
        """Whether this process should get new connections, and the reason if not."""
        return self._world.local.ready

    def stats(self) -> HubStats:
        """Return what there is now: connections, users, rooms, what waits, who was refused."""
        return self._world.hub.stats()

    @contextmanager
    def testing(
        self,
        settings: Mapping[str, Mapping[str, object]] | None = None,
        *,
        connections: int | None = None,
        per_ip: int | None = None,
        per_user: int | None = None,
        per_room: int | None = None,
    ) -> Iterator[Clock]:
        """Run tests with other limits, empty counts, and a clock that only the test moves.

            with gate.testing(per_user=1), client.websocket_connect("/ws/a"):
                with pytest.raises(Refused, match="user_limit"):
                    client.websocket_connect("/ws/a").__enter__()

        A refusal raises `Refused` out of Starlette's `TestClient`, which needs no sockets.

        Args:
            settings: sections with settings in place of the gate's.
            connections: as for the gate, and so are the others.

        Raises:
            ConfigError: a setting is wrong.
        """
        changed = merged(self.settings, settings or {})
        clock = Clock()
        before = self._world
        self._world = World(
            settings_of(
                changed,
                connections=connections,
                per_ip=per_ip,
                per_user=per_user,
                per_room=per_room,
            ),
            clock,
            clock,
            raises=True,
        )
        try:
            yield clock
        finally:
            self._world = before

    async def _admit(
        self, world: World, websocket: WebSocket, identity: Identity | None, dependency: Any
    ) -> Admitted[Any, Any]:
        """Take a lease, or move the one that the middleware took to its user."""
        route = self._route(websocket.scope["endpoint"], dependency)
        local = world.local
        lease = world.lease_of(websocket.scope)
        own = None
        if lease is None:
            decision = await local.decide(local.request(websocket.scope), identity)
            if not isinstance(decision, Admit):
                raise await world.refusal(websocket, decision)
            lease = own = decision.lease
            identity = decision.attempt.identity
        elif identity is not None:
            reject = await local.identify(lease, identity)
            if reject is not None:
                local.refusals.count(reject.reason)
                raise await world.refusal(websocket, reject)
        member: Admitted[Any, Any] = Admitted(
            world.hub,
            websocket,
            lease.user,
            route,
            world.refuse,
            own,
            () if lease.claims is None else lease.claims.join,
        )
        if identity is not None and identity.expires_at is not None:
            member.expire_in(identity.expires_at - world.wall())
        return member

    def _route(self, endpoint: Any, dependency: Any) -> Route:
        route = self._routes.get((endpoint, dependency))
        if route is None:
            limits = self._limits.get(inspect.unwrap(endpoint), self._limits.get(endpoint))
            route = route_of(endpoint, dependency, limits)
            self._routes[endpoint, dependency] = route
        return route


async def _unknown() -> None:
    """The user of a gate that is told by tokens alone."""


def _identity(found: Any) -> Identity:
    if isinstance(found, Identity):
        return found
    if found is None or isinstance(found, str):
        return Identity(found)
    if isinstance(found, int | UUID) and not isinstance(found, bool):
        return Identity(str(found))
    raise UsageError(
        "the dependency that gate.member(user=...) is given must return a str, an Identity or "
        f"None, not {type(found).__name__}"
    )
