"""Who may connect: tokens and their keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from tidegate.core.settings.fields import Section, setting, shown

__all__ = ["ALGORITHMS", "AnonymousSettings", "AuthKey", "AuthSettings"]

# RFC 7518 3.2: a key of the same size as the hash output or larger must be used.
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
ALGORITHMS: Final = (
    *_SECRET_BYTES,
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""The token algorithms that can be allowed (RFC 7518, RFC 8037); "none" is not among them."""


def _rooms(doc: str) -> Any:
    return setting(
        ("*",),
        doc,
        pattern=r"[^\x00-\x1f\x7f-\x9f*]{0,127}\*|[^\x00-\x1f\x7f-\x9f*]{1,128}",
        wording='the name of a room, or its beginning and "*"',
        live=True,
    )


@dataclass(frozen=True, slots=True)
class AnonymousSettings(Section):
    """What clients without a token may do, where they may connect (`auth.anonymous`)."""

    section: ClassVar[str] = "anonymous"
    join: tuple[str, ...] = _rooms(
        'Rooms that they may join; a name that ends with "*" stands for all that begin so.'
    )
    publish: tuple[str, ...] = _rooms("Rooms that they may write to, once they have joined them.")
    direct: bool = setting(False, "Whether they may write to users.", live=True)


def _secret() -> Any:
    return setting(
        None,
        "Key of HS256, HS384 and HS512: at least 32, 48 or 64 bytes.",
        secret=True,
        live=True,
    )


def _public_key() -> Any:
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
    secret: str | None = _secret()
    public_key: str | None = _public_key()

    def _check(self) -> None:
        shared = self.algorithm in _SECRET_BYTES
        wanted, other = ("secret", "public_key") if shared else ("public_key", "secret")
        if getattr(self, other) is not None:
            raise self.error(other, f"must not be set for {self.algorithm}")
        if getattr(self, wanted) is None:
            raise self.error(wanted, f"must be set for {self.algorithm}")
        if self.secret is not None:
            _check_secret(self, self.secret, self.algorithm)


@dataclass(frozen=True, slots=True)
class AuthSettings(Section):
    """Who may connect. Tokens are accepted when there is a secret, a public key or a list."""

    section: ClassVar[str] = "auth"
    anonymous: bool = setting(True, "Whether clients without a token may connect.")
    algorithms: tuple[str, ...] = setting(
        ("HS256",),
        "Algorithms, of one family, that auth.secret or auth.public_key is for.",
        choices=ALGORITHMS,
        live=True,
    )
    secret: str | None = _secret()
    public_key: str | None = _public_key()
    keys: tuple[AuthKey, ...] = setting(
        (),
        "More keys that tokens may be signed with, so that a new one can come before an old one "
        "goes.",
        wording="a section [[auth.keys]]",
        secret=True,
        live=True,
    )
    issuer: str | None = setting(None, 'What the "iss" claim must be, when set.', live=True)
    audience: str | None = setting(None, 'What the "aud" claim must contain, when set.', live=True)
    query_token: bool = setting(
        False, "Whether a token may come in the query, where logs of proxies show it."
    )
    first_message: bool = setting(True, "Whether a token may come in a first auth message.")
    timeout: float = setting(
        5.0,
        "Time in which the first auth message must arrive.",
        unit="s",
        low=0.1,
        high=3600,
        live=True,
    )
    leeway: float = setting(
        0.0, "Difference between clocks that is tolerated.", unit="s", low=0, high=300, live=True
    )

    def _check(self) -> None:
        if not self.algorithms:
            raise self.error("algorithms", "must name at least one algorithm")
        shared = [name for name in self.algorithms if name in _SECRET_BYTES]
        # RFC 8725 2.1: a verifier of both families can be made to use a public key as a secret.
        if 0 < len(shared) < len(self.algorithms):
            raise self.error("algorithms", "must not mix HS algorithms with the others")
        if shared and self.public_key is not None:
            raise self.error("algorithms", "must not be HS algorithms, which use no public key")
        if not shared and self.secret is not None:
            raise self.error("algorithms", "must be HS algorithms, because auth.secret is set")
        if self.secret is not None:
            _check_secret(self, self.secret, max(shared, key=_SECRET_BYTES.__getitem__))
        if not shared and self.public_key is None:
            raise self.error("algorithms", "needs auth.public_key")
        kids = [key.kid for key in self.keys if key.kid is not None]
        for kid in kids:
            if kids.count(kid) > 1:
                raise self.error("keys", f"must not have two keys of kid {shown(kid)}")
        if not (self.anonymous or self.has_keys):
            problem = "needs auth.secret, auth.public_key or auth.keys to let anyone in"
            raise self.error("anonymous", problem)

    @property
    def has_keys(self) -> bool:
        """Whether tokens are accepted."""
        return self.secret is not None or self.public_key is not None or bool(self.keys)


def _check_secret(section: Section, secret: str, algorithm: str) -> None:
    """Raise SettingError for a secret that is too short for an algorithm."""
    least = _SECRET_BYTES[algorithm]
    if len(secret.encode()) < least:
        raise section.error("secret", f"must be at least {least} bytes for {algorithm}")
