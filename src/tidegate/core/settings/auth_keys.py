"""Keys that tokens are verified with, and their algorithms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from tidegate.core.settings.fields import Section, setting

__all__ = [
    "ALGORITHMS",
    "SECRET_BYTES",
    "AuthKey",
    "check_secret",
    "public_key_setting",
    "secret_setting",
]

# RFC 7518 3.2: a key of the same size as the hash output or larger must be used.
SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""How long a secret must be, by its algorithm."""
ALGORITHMS: Final = (
    *SECRET_BYTES,
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""The token algorithms that can be allowed (RFC 7518, RFC 8037); "none" is not among them."""


def secret_setting() -> Any:
    """Declare a shared secret."""
    return setting(
        None,
        "Key of HS256, HS384 and HS512: at least 32, 48 or 64 bytes.",
        secret=True,
        live=True,
    )


def public_key_setting() -> Any:
    """Declare a public key."""
    return setting(
        None,
        "Public key of the other algorithms: PEM text, or the path of a PEM file.",
        pattern=r"[^\x00]+",
        wording="PEM text, or the path of a PEM file",
        live=True,
    )


@dataclass(frozen=True, slots=True)
class AuthKey(Section):
    """One key of `auth.keys`, with its own algorithm."""

    section: ClassVar[str] = "auth.keys"
    kid: str | None = setting(
        None,
        "Its name in the head of tokens (RFC 7515 4.1.4). A key without one is tried for tokens "
        "that name no key of the list.",
        live=True,
    )
    algorithm: str = setting(
        "", "The one algorithm that it is for; must be given.", choices=ALGORITHMS, live=True
    )
    secret: str | None = secret_setting()
    public_key: str | None = public_key_setting()

    def _check(self) -> None:
        shared = self.algorithm in SECRET_BYTES
        wanted, other = ("secret", "public_key") if shared else ("public_key", "secret")
        if getattr(self, other) is not None:
            raise self.error(other, f"must not be set for {self.algorithm}")
        if getattr(self, wanted) is None:
            raise self.error(wanted, f"must be set for {self.algorithm}")
        if self.secret is not None:
            check_secret(self, self.secret, self.algorithm)


def check_secret(section: Section, secret: str, algorithm: str) -> None:
    """Raise SettingError for a secret that is too short for an algorithm."""
    least = SECRET_BYTES[algorithm]
    if len(secret.encode()) < least:
        raise section.error("secret", f"must be at least {least} bytes for {algorithm}")
