"""Accounts of the fake: keys, and the tokens that they are exchanged for."""

import base64
import json
import secrets
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from tests.google.clock import Clock

#: of a token
SECONDS = 3600
#: what the times in a signed request may differ from the fake's clock
_SKEW_SECONDS = 300
#: what the identity provider of the tests knows, and the token that it gives
CLIENT, SUBJECT = ("client", "of the client"), "token of another provider"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class Logins:
    """What token endpoints answer, and whose a token is."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: dict[str, tuple[str, Any]] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        self.required = False
        """Whether a request without a token is refused."""
        self.token_seconds = SECONDS
        self.issued = 0
        """Tokens given so far."""
        self.forms: list[tuple[str, dict[str, str]]] = []
        """What token endpoints received: ``token`` (keys), ``sts`` (federation), ``identity-provider`` (another's)."""
        self.down = 0
        """How many of the next requests for a token are answered with 503."""

    def key(self, account: str, *, token_uri: str) -> dict[str, Any]:
        """Return a new key of an account, as its file has it."""
        text, public = _pair()
        key_id = secrets.token_hex(8)
        self._keys[key_id] = (account, public)
        return {
            "type": "service_account",
            "project_id": account.partition("@")[2].partition(".")[0],
            "private_key_id": key_id,
            "private_key": text,
            "client_email": account,
            "client_id": "1",
            "token_uri": token_uri,
        }

    def delete_keys(self) -> None:
        """Have no key accepted any more; tokens stay good."""
        self._keys.clear()

    def revoke(self) -> None:
        """Have no token accepted that was given until now."""
        self._tokens.clear()

    def issue(self, account: str) -> dict[str, Any]:
        """Return a new token as a token endpoint answers it."""
        token = f"ya29.fake-{secrets.token_hex(12)}"
        self._tokens[token] = (account, self._clock.now() + self.token_seconds)
        self.issued += 1
        return {"access_token": token, "expires_in": self.token_seconds, "token_type": "Bearer"}

    def account_of(self, authorization: str, refused: Callable[..., Exception]) -> str:
        """Return whose the token of a request is; empty without one, where none is required."""
        token = authorization.removeprefix("Bearer ").strip()
        if not token and not self.required:
            return ""
        account, end = self._tokens.get(token, ("", 0.0))
        if not account or end <= self._clock.now():
            raise refused(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
                reason="ACCESS_TOKEN_EXPIRED" if account else "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            )
        return account

    def answer(
        self, place: str, path: str, content: bytes, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, Any]]:
        """Answer a request to another path than those of the services."""
        if place not in ("token", "sts", "identity-provider"):
            return 404, {"error": "not_found"}
        if self.down > 0:
            self.down -= 1
            return 503, {"error": "temporarily_unavailable"}
        form = {name: values[0] for name, values in parse_qs(content.decode()).items()}
        self.forms.append((place, form))
        if place == "token":
            return self._token(form.get("assertion", ""))
        if place == "identity-provider":
            is_right = (form.get("client_id"), form.get("client_secret")) == CLIENT
            return (
                (200, {"access_token": SUBJECT, "expires_in": 300}) if is_right else (401, {"error": "invalid_client"})
            )
        if form.get("subject_token") != SUBJECT:
            return 400, {"error": "invalid_grant", "error_description": "The given credential is rejected."}
        return 200, {**self.issue("principal://pool/subject"), "issued_token_type": _ACCESS_TOKEN}

    def _token(self, assertion: str) -> tuple[int, Mapping[str, Any]]:
        """Exchange a request that a key signed."""
        head, claims, signature = (*assertion.split("."), "", "", "")[:3]
        key_id = _decoded(head).get("kid", "")
        account, public = self._keys.get(key_id, ("", None))
        if public is None:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        public.verify(_bytes(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
        found = _decoded(claims)
        now = self._clock.now()
        if abs(found["iat"] - now) > _SKEW_SECONDS:
            description = (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim."
            )
            return 400, {"error": "invalid_grant", "error_description": description}
        if audience := found.get("target_audience"):
            return 200, {"id_token": self.identity(account, audience)}
        return 200, self.issue(account)

    def identity(self, account: str, audience: str) -> str:
        """Return a token that says who calls, for one service."""
        now = int(self._clock.now())
        claims = {
            "aud": audience,
            "email": account,
            "iat": now,
            "exp": now + SECONDS,
            "iss": "https://accounts.google.com",
        }
        return f"{_encoded({'alg': 'RS256', 'kid': 'fake'})}.{_encoded(claims)}.{_encode(b'signature')}"


@cache
def _pair() -> tuple[str, Any]:
    """Return a private key and its public one: the same for all accounts, since making one takes long."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode(), private.public_key()


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token of ``Logins.identity`` says."""
    return _decoded(token.split(".")[1])


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _decoded(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_bytes(text)) if text else {}
    return found


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _encoded(document: Mapping[str, Any]) -> str:
    return _encode(json.dumps(document).encode())
