"""Who connections belong to after they are open: deadlines and late tokens, on a virtual clock."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.support.members import at_once
from tidegate.core.admission.attempt import ANONYMOUS, Identity, Lease, Reject
from tidegate.core.admission.tracker import ConnectionTracker
from tidegate.core.codes import (
    AUTH_TIMEOUT,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    USER_LIMIT,
    Close,
    Refusal,
)
from tidegate.core.settings import Settings
from tidegate.engine.states import Admission
from tidegate.gate.tokens import Unauthorized
from tidegate.node import identities as module
from tidegate.node.identities import Identities
from tidegate.node.users import Users

WALL = 1_800_000_000.0
START = 1000.0


class Connection:
    """A connection that is only asked to end."""

    def __init__(self, lease: Lease, admission: Admission) -> None:
        self.lease = lease
        self.admission = admission
        self.ends: list[Refusal | Close] = []

    @property
    def user(self) -> str | None:
        return self.lease.user

    def end(self, reason: Refusal | Close) -> None:
        self.ends.append(reason)


class Tokens:
    """An authenticator whose tokens are the names of identities."""

    def __init__(self) -> None:
        self.known: dict[str, Identity] = {}

    def identify(self, token: str) -> Identity:
        if token not in self.known:
            raise Unauthorized("token not valid")
        return self.known[token]


class World:
    """`Identities` among its neighbours, at a time that the test sets."""

    def __init__(self, **sections: dict[str, Any]) -> None:
        self.settings = Settings.from_mapping(sections)
        self.now = START
        self.told: list[tuple[Any, float]] = []
        """Connections that were told that their token ends, and in how many seconds."""
        self.tracker = ConnectionTracker(self.settings.limits, self.settings.tiers)
        self.users: Users[Any] = Users()
        self.tokens = Tokens()
        self.identities = Identities(
            self.settings, self.tracker, self.users, cast(Any, self.tokens)
        )

    def open(
        self,
        identity: Identity = ANONYMOUS,
        *,
        expires_in: float | None = None,
        admission: Admission = Admission.ADMITTED,
    ) -> Any:
        lease = self.tracker.acquire("192.0.2.1", identity)
        assert isinstance(lease, Lease)
        connection: Any = Connection(lease, admission)
        self.identities.admitted(connection, expires_in)
        return connection

    def identify(
        self, connection: Any, user: str = "ann", expires_in: float | None = None
    ) -> Reject | None:
        """Give a connection the token of a user that ends in so many seconds."""
        expires_at = None if expires_in is None else WALL + self.now - START + expires_in
        self.tokens.known[user] = Identity(user, expires_at=expires_at)
        return self.take(connection, user)

    def take(self, connection: Any, token: str) -> Reject | None:
        told: list[Reject | None] = []
        self.identities.identify(connection, token, told.append)
        (rejection,) = told
        return rejection

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.identities.tick(
            self.now, at_once, lambda connection, seconds: self.told.append((connection, seconds))
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(module, "monotonic", lambda: world.now)
    monkeypatch.setattr(module, "time", lambda: WALL + world.now - START)
    return world


# Deadlines.


@pytest.mark.parametrize(
    ("expires_in", "after", "ends"),
    [
        (None, 1e9, []),
        (50, 49.9, []),
        (50, 50, [TOKEN_EXPIRED]),
        (50, 1e9, [TOKEN_EXPIRED]),
        (0, 0, [TOKEN_EXPIRED]),
        (-5, 0, [TOKEN_EXPIRED]),
    ],
)
def test_connection_with_a_token_ends_when_that_does(
    world: World, expires_in: float | None, after: float, ends: list[Close]
) -> None:
    connection = world.open(Identity("ann"), expires_in=expires_in)
    assert connection.ends == []
    world.pass_time(after)
    assert connection.ends == ends


@pytest.mark.parametrize(
    ("notice", "expires_in", "told_at"),
    [
        (30, 3600, 3570),
        (30, 60, 30),
        (30, 50, 25),  # half of what is left
        (30, 0.4, 0.2),
        (0, 3600, None),
        (30, 0, None),
        (30, -5, None),
        (30, None, None),
    ],
)
def test_client_is_told_once_before_its_token_ends(
    monkeypatch: pytest.MonkeyPatch, notice: float, expires_in: float | None, told_at: float | None
) -> None:
    world = World(auth={"expiry_notice": notice})
    monkeypatch.setattr(module, "monotonic", lambda: world.now)
    connection = world.open(Identity("ann"), expires_in=expires_in)
    if told_at is not None and expires_in is not None:
        world.pass_time(told_at - 0.01)
        assert world.told == []
        world.pass_time(0.02)
        ((told, seconds),) = world.told
        assert told is connection
        assert seconds == pytest.approx(expires_in - told_at - 0.01)
        world.pass_time(expires_in - told_at - 0.02)
        assert connection.ends == []
        world.pass_time(0.02)
        assert connection.ends == [TOKEN_EXPIRED]
        assert len(world.told) == 1
    else:
        world.pass_time(1e9)
        assert world.told == []
        assert connection.ends == ([] if expires_in is None else [TOKEN_EXPIRED])


def test_client_with_a_newer_token_is_told_again_and_ends_with_that(world: World) -> None:
    connection = world.open(Identity("ann"), expires_in=100)
    world.pass_time(70)
    assert [seconds for _, seconds in world.told] == [30]
    world.tokens.known["newer"] = Identity("ann", expires_at=WALL + 70 + 200)
    assert world.identities.extend(connection, "newer") is None
    world.pass_time(169)
    assert len(world.told) == 1
    world.pass_time(1)
    assert [seconds for _, seconds in world.told] == [30, 30]
    assert connection.ends == []
    world.pass_time(30)
    assert connection.ends == [TOKEN_EXPIRED]


def test_connection_that_has_ended_is_told_nothing(world: World) -> None:
    for expires_in in (100, 40):
        world.identities.gone(world.open(Identity("ann"), expires_in=expires_in))
    world.pass_time(1e9)
    assert world.told == []


def test_after_a_pause_in_which_a_token_has_ended_its_client_is_told_and_ends(world: World) -> None:
    connection = world.open(Identity("ann"), expires_in=100)
    world.pass_time(500)
    assert world.told == [(connection, 0.0)]
    assert connection.ends == [TOKEN_EXPIRED]


@pytest.mark.parametrize(("after", "ends"), [(4.9, []), (5, [AUTH_TIMEOUT])])
def test_connection_that_must_authenticate_ends_when_its_time_is_over(
    world: World, after: float, ends: list[Close]
) -> None:
    connection = world.open(admission=Admission.UNIDENTIFIED)
    world.pass_time(after)
    assert connection.ends == ends


def test_connection_without_a_deadline_stays(world: World) -> None:
    connection = world.open()
    world.pass_time(1e9)
    assert connection.ends == []


def test_deadline_that_has_passed_ends_its_connection_once(world: World) -> None:
    connection = world.open(admission=Admission.UNIDENTIFIED, expires_in=1)
    world.pass_time(10)
    world.pass_time(10)
    assert sorted(reason.name for reason in connection.ends) == ["auth_timeout", "token_expired"]


def test_connection_that_is_gone_has_no_deadlines(world: World) -> None:
    connection = world.open(admission=Admission.UNIDENTIFIED, expires_in=1)
    world.identities.gone(connection)
    world.identities.gone(connection)
    world.pass_time(1e9)
    assert connection.ends == []


def test_apply_of_another_timeout_is_in_force_for_new_connections(world: World) -> None:
    before = world.open(admission=Admission.UNIDENTIFIED)
    world.identities.apply(Settings.from_mapping({"auth": {"timeout": 60}}))
    after = world.open(admission=Admission.UNIDENTIFIED)
    world.pass_time(5)
    assert (before.ends, after.ends) == ([AUTH_TIMEOUT], [])
    world.pass_time(55)
    assert after.ends == [AUTH_TIMEOUT]


# Users.


def test_connection_of_a_user_is_found_under_it(world: World) -> None:
    connection = world.open(Identity("ann"))
    assert world.users.of_user("ann") == (connection,)
    world.open()
    assert len(world.users) == 1


# Late tokens.


@pytest.mark.parametrize(("expires_in", "ends"), [(None, []), (30, [TOKEN_EXPIRED]), (100, [])])
def test_identify_in_time_lets_a_connection_stay_as_long_as_its_token(
    world: World, expires_in: float | None, ends: list[Close]
) -> None:
    connection = world.open(admission=Admission.UNIDENTIFIED)
    assert world.identify(connection, expires_in=expires_in) is None
    assert connection.admission is Admission.ADMITTED
    world.pass_time(29.9)
    assert connection.ends == []
    world.pass_time(10.1)
    assert connection.ends == ends


def test_identify_moves_the_connection_to_its_user(world: World) -> None:
    connection = world.open()
    assert world.identify(connection, "ann") is None
    assert connection.user == "ann"
    assert world.users.of_user("ann") == (connection,)
    assert world.tracker.user_count("ann") == 1
    assert world.tracker.open == 1


@pytest.mark.parametrize("admission", [Admission.ADMITTED, Admission.UNIDENTIFIED])
def test_identify_with_a_bad_token_changes_nothing_and_says_why(
    world: World, admission: Admission
) -> None:
    connection = world.open(admission=admission)
    reject = world.take(connection, "nonsense")
    assert reject is not None
    assert reject.reason is UNAUTHORIZED
    assert reject.retry_after is None
    assert (connection.admission, connection.user, len(world.users)) == (admission, None, 0)
    world.pass_time(5)
    assert connection.ends == ([AUTH_TIMEOUT] if admission is Admission.UNIDENTIFIED else [])


def test_identify_beyond_the_limit_of_the_user_changes_nothing_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(limits={"per_user": 1})
    monkeypatch.setattr(module, "monotonic", lambda: world.now)
    world.open(Identity("ann"))
    connection = world.open(admission=Admission.UNIDENTIFIED)
    reject = world.identify(connection, "ann")
    assert reject is not None
    assert reject.reason is USER_LIMIT
    assert reject.retry_after == USER_LIMIT.retry_after
    assert (connection.admission, connection.user) == (Admission.UNIDENTIFIED, None)
    assert world.tracker.user_count("ann") == 1
    assert connection not in world.users.of_user("ann")
    world.pass_time(5)
    assert connection.ends == [AUTH_TIMEOUT]


def test_identify_with_a_token_without_end_replaces_an_earlier_end(world: World) -> None:
    # An identifier of the application's own may give those without a user a time, too.
    connection = world.open(expires_in=10)
    assert world.identify(connection, "ann") is None
    world.pass_time(20)
    assert connection.ends == []
