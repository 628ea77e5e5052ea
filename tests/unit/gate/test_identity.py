"""Who an attempt belongs to, by its token."""

from __future__ import annotations

import pytest

from tests.unit.gate.gate_world import SECRET, WALL, opening
from tidegate.core.admission.attempt import ANONYMOUS, Identity
from tidegate.core.codes import UNAUTHORIZED, Refusal
from tidegate.core.settings import AuthSettings
from tidegate.gate.identity import TokenIdentifier
from tidegate.gate.tokens import Authenticator, create_token

pytestmark = pytest.mark.usefixtures("clock_stands")

AUTH = AuthSettings(secret=SECRET)


def token(age: float = 0) -> str:
    return create_token(
        AUTH, user="ann", tier="free", priority=3, lifetime_seconds=60, now=WALL - age
    )


ANN = Identity("ann", "free", 3, WALL + 60)


@pytest.mark.parametrize("in_band", [False, True])
@pytest.mark.parametrize("first_message", [False, True])
@pytest.mark.parametrize("anonymous", [False, True])
@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (token(), ANN),
        (token(age=61), UNAUTHORIZED),
        (token()[:-4] + "AAAA", UNAUTHORIZED),
        ("", UNAUTHORIZED),
        ("nonsense", UNAUTHORIZED),
    ],
)
def test_identify_by_token(
    shown: str, found: Identity | Refusal, anonymous: bool, first_message: bool, in_band: bool
) -> None:
    """A token that is not valid is never as good as none."""
    auth = AuthSettings(secret=SECRET, anonymous=anonymous, first_message=first_message)
    identifier = TokenIdentifier(auth, Authenticator(auth))
    assert identifier.identify(opening(1, token=shown, in_band=in_band)) == found


@pytest.mark.parametrize(
    ("anonymous", "first_message", "in_band", "found"),
    [
        (True, True, True, ANONYMOUS),
        (True, True, False, ANONYMOUS),
        (True, False, True, ANONYMOUS),
        (True, False, False, ANONYMOUS),
        (False, True, True, ANONYMOUS),
        (False, True, False, UNAUTHORIZED),
        (False, False, True, UNAUTHORIZED),
        (False, False, False, UNAUTHORIZED),
    ],
)
def test_identify_without_a_token(
    anonymous: bool, first_message: bool, in_band: bool, found: Identity | Refusal
) -> None:
    auth = AuthSettings(secret=SECRET, anonymous=anonymous, first_message=first_message)
    identifier = TokenIdentifier(auth, Authenticator(auth))
    assert identifier.identify(opening(1, in_band=in_band)) is found
