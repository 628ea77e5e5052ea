"""Other issuers of tokens, each with its keys (`auth.issuers`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from tidegate.core.settings.auth_keys import (
    ALGORITHMS,
    SECRET_BYTES,
    check_secret,
    public_key_setting,
    secret_setting,
)
from tidegate.core.settings.fields import Section, setting
from tidegate.core.settings.urls import is_url, url_problem

__all__ = ["AuthIssuer"]

_SOURCES: Final = ("jwks", "secret", "public_key")


@dataclass(frozen=True, slots=True)
class AuthIssuer(Section):
    """One issuer of `auth.issuers`: tokens with its "iss" are checked with its keys alone."""

    section: ClassVar[str] = "auth.issuers"
    issuer: str = setting(
        "", 'What the "iss" claim of its tokens is; must be given.', pattern=r"[^\x00-\x1f\x7f]*",
        live=True,
    )  # fmt: skip
    audience: str | None = setting(None, 'What the "aud" claim must contain, when set.', live=True)
    algorithms: tuple[str, ...] = setting(
        (),
        "Algorithms, of one family, that its keys are for; must be given.",
        choices=ALGORITHMS,
        live=True,
    )
    jwks: str | None = setting(
        None,
        "Its public keys as a JWK Set (RFC 7517): a URL of https, which is fetched when a token "
        "names the issuer and kept as long as the response says, or the path of a file.",
        live=True,
    )
    secret: str | None = secret_setting()
    public_key: str | None = public_key_setting()

    @property
    def jwks_url(self) -> str | None:
        """The URL of its keys, None if they are given or in a file."""
        return self.jwks if self.jwks is not None and is_url(self.jwks) else None

    def _check(self) -> None:
        if not self.issuer:
            raise self.error("issuer", "must be given")
        if not self.algorithms:
            raise self.error("algorithms", "must name at least one algorithm")
        shared = [name for name in self.algorithms if name in SECRET_BYTES]
        # RFC 8725 2.1, as for `auth.algorithms`.
        if 0 < len(shared) < len(self.algorithms):
            raise self.error("algorithms", "must not mix HS algorithms with the others")
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        allowed = ("secret",) if shared else ("jwks", "public_key")
        if len(given) != 1 or given[0] not in allowed:
            wanted = " or ".join(allowed)
            raise self.error("algorithms", f"needs {wanted}, and nothing else beside it")
        if self.secret is not None:
            check_secret(self, self.secret, max(shared, key=SECRET_BYTES.__getitem__))
        if self.jwks_url is not None:
            problem = url_problem(self.jwks_url)
            if problem:
                raise self.error("jwks", problem)
