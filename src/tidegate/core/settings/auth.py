"""Who may connect: tokens and their keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tidegate.core.settings.auth_keys import (
    ALGORITHMS,
    SECRET_BYTES,
    AuthKey,
    check_secret,
    public_key_setting,
    secret_setting,
)
from tidegate.core.settings.fields import Section, setting, shown
from tidegate.core.settings.issuers import AuthIssuer

__all__ = ["AnonymousSettings", "AuthSettings"]


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
    secret: str | None = secret_setting()
    public_key: str | None = public_key_setting()
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
    issuers: tuple[AuthIssuer, ...] = setting(
        (),
        "Other issuers of tokens, each with its own keys, audience and algorithms.",
        wording="a section [[auth.issuers]]",
        secret=True,
        live=True,
    )
    revocation_ttl: float = setting(
        86_400.0,
        "How long the tokens of a user stay revoked: at least as long as the longest is valid.",
        unit="s",
        low=60,
        high=31_536_000,
        live=True,
    )
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
    expiry_notice: float = setting(
        30.0,
        "Time before a token ends at which its client is told; half of what is left, if less. 0: "
        "not at all.",
        unit="s",
        low=0,
        high=3600,
    )
    leeway: float = setting(
        0.0, "Difference between clocks that is tolerated.", unit="s", low=0, high=300, live=True
    )

    def _check(self) -> None:
        if not self.algorithms:
            raise self.error("algorithms", "must name at least one algorithm")
        shared = [name for name in self.algorithms if name in SECRET_BYTES]
        # RFC 8725 2.1: a verifier of both families can be made to use a public key as a secret.
        if 0 < len(shared) < len(self.algorithms):
            raise self.error("algorithms", "must not mix HS algorithms with the others")
        if shared and self.public_key is not None:
            raise self.error("algorithms", "must not be HS algorithms, which use no public key")
        if not shared and self.secret is not None:
            raise self.error("algorithms", "must be HS algorithms, because auth.secret is set")
        if self.secret is not None:
            check_secret(self, self.secret, max(shared, key=SECRET_BYTES.__getitem__))
        if not shared and self.public_key is None:
            raise self.error("algorithms", "needs auth.public_key")
        kids = [key.kid for key in self.keys if key.kid is not None]
        for kid in kids:
            if kids.count(kid) > 1:
                raise self.error("keys", f"must not have two keys of kid {shown(kid)}")
        names = [one.issuer for one in self.issuers]
        if self.issuer is not None:
            names.append(self.issuer)
        for name in names:
            if names.count(name) > 1:
                raise self.error("issuers", f"must not have two of issuer {shown(name)}")
        if not (self.anonymous or self.has_keys):
            problem = (
                "needs auth.secret, auth.public_key, auth.keys or auth.issuers to let anyone in"
            )
            raise self.error("anonymous", problem)

    @property
    def has_keys(self) -> bool:
        """Whether tokens are accepted."""
        return bool(self.secret or self.public_key or self.keys or self.issuers)
