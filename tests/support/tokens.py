"""Tokens for tests, signed with a key that is no secret."""

from __future__ import annotations

import time
from typing import Any

import jwt

__all__ = ["SECRET", "bearer", "token"]

SECRET = "a key for tests that is of no use to anybody else"


def token(user: str | None = "ann", *, expires_in: float = 60, **claims: Any) -> str:
    """A valid token, unless the claims make it another; a claim that is None is left out."""
    now = time.time()
    content = {"sub": user, "iat": int(now), "exp": now + expires_in, **claims}
    return jwt.encode({k: v for k, v in content.items() if v is not None}, SECRET, "HS256")


def bearer(*args: Any, **claims: Any) -> tuple[str, str]:
    """The header that carries a token."""
    return "Authorization", f"Bearer {token(*args, **claims)}"
