"""An issuer of tokens: it signs them, and publishes its keys over HTTP on this machine."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.support.local_http import Handler, LocalHttp

__all__ = ["ISSUER", "JwksServer"]

ISSUER = "https://login.example"


class JwksServer(LocalHttp):
    """Publishes keys, or does not.

    `status` is that of its responses; `hang` holds them back while it is cleared; `requests`
    counts those that came.
    """

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        self.requests = 0
        self.rotate("1")
        owner = self

        class Keys(Handler):
            def do_GET(self) -> None:
                owner.requests += 1
                owner.hang.wait(30)
                self.respond(owner.status, owner.headers, owner.body or owner.document())

        super().__init__(Keys)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys"

    @property
    def auth(self) -> dict[str, Any]:
        """The settings that accept its tokens, and no client without one."""
        issuer = {"issuer": ISSUER, "audience": "chat", "algorithms": ["ES256"], "jwks": self.url}
        return {"anonymous": False, "issuers": [issuer]}

    def rotate(self, kid: str) -> None:
        """Sign with a new key from now on, and publish it alone."""
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1())}

    def document(self) -> bytes:
        keys = [
            {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        return json.dumps({"keys": keys}).encode()

    def token(self, user: str = "ann", **more: Any) -> str:
        kid, key = next(iter(self.keys.items()))
        now = time.time()
        claims = {"sub": user, "iss": ISSUER, "aud": "chat", "iat": now, "exp": now + 600, **more}
        return jwt.encode(claims, key, "ES256", {"kid": kid})

    def invented(self) -> str:
        """A token of a key that does not exist."""
        key = ec.generate_private_key(ec.SECP256R1())
        claims = {"sub": "eve", "iss": ISSUER, "aud": "chat"}
        return jwt.encode(claims, key, "ES256", {"kid": f"{time.time_ns()}"})
