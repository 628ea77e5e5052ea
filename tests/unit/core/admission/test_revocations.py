"""Revocations: which tokens are refused, for how long, and how many there can be."""

from __future__ import annotations

import pytest

from tidegate.core.admission import revocations as module
from tidegate.core.admission.revocations import Revocations
from tidegate.errors import UsageError

WALL = 1_800_000_000.0


@pytest.mark.parametrize(
    ("issued", "revoked"),
    [
        (WALL - 1, True),
        (int(WALL) - 1, True),
        (WALL, False),
        (WALL + 1, False),
        (None, True),
        ("1800000001", True),
    ],
)
def test_revoke_refuses_what_was_issued_before(issued: object, revoked: bool) -> None:
    made = Revocations(60.0)
    made.revoke("ann", WALL, WALL)
    assert made.revoked("ann", issued, WALL) is revoked
    assert not made.revoked("bob", issued, WALL)


def test_revoke_in_the_second_of_the_token_counts_it_as_old() -> None:
    made = Revocations(60.0)
    made.revoke("ann", WALL + 0.5, WALL + 0.5)
    assert made.revoked("ann", int(WALL), WALL + 0.6)


def test_revocation_ends_after_its_time() -> None:
    made = Revocations(60.0)
    made.revoke("ann", WALL, WALL)
    assert made.revoked("ann", 0, WALL + 59.9)
    assert not made.revoked("ann", 0, WALL + 60)


def test_revoke_again_lasts_longer_and_is_never_weaker() -> None:
    made = Revocations(60.0)
    made.revoke("ann", WALL, WALL)
    made.revoke("ann", WALL - 100, WALL + 50)
    assert made.revoked("ann", WALL - 1, WALL + 100)


def test_revoke_beyond_the_bound_is_refused_until_one_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_REVOCATIONS", 2)
    made = Revocations(60.0)
    made.revoke("ann", WALL, WALL)
    made.revoke("bob", WALL, WALL + 1)
    with pytest.raises(UsageError, match="revoked already"):
        made.revoke("cid", WALL, WALL + 2)
    made.revoke("bob", WALL, WALL + 2)
    made.revoke("cid", WALL, WALL + 60)
    assert len(made) == 2
    assert not made.revoked("ann", 0, WALL + 60)
