"""Single sign-on by OpenID Connect: the authorization code flow with PKCE (RFC 7636), state and nonce.

Knows no cookie and no page. What comes back from the provider is believed as far as its ID token proves it
(OpenID Connect Core 1.0, 3.1.3.7): signed by the provider's key, for us, for this very login, and not too old.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urlsplit

from gateway.errors import Forbidden, Overloaded
from gateway.settings import Settings
from gateway.ui.roles import Role, roles_of

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)
TIMEOUT_S: Final = 10.0
LEEWAY_S: Final = 60
# Signatures by keys that the provider alone has; with HMAC or none anybody could be anybody.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
SAFE_CHARS: Final = 300


class SignOnRefused(Forbidden):
    """Nobody was logged in by single sign-on; the message may be shown."""

    code = "sign_on_refused"


class SignOnUnusable(ValueError):
    """Settings of single sign-on that can't work; the message says how to mend them."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A login that has been sent to the provider at `url`; the rest must be kept by the browser until it is back."""

    url: str
    state: str
    nonce: str
    verifier: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who came back: `subject` is for the audit log, `oidc:name/sub`."""

    subject: str
    role: Role


@dataclass(frozen=True, slots=True)
class Registration:
    """Us, as the provider knows us, and what its claims mean."""

    issuer: str
    client_id: str
    client_secret: str | None
    scopes: str
    claim: str
    roles: Mapping[str, Role]


class Oidc:
    """One provider. Its metadata and keys are read at each login, so that new keys count at once."""

    def __init__(self, registration: Registration) -> None:
        self._us = registration

    @classmethod
    def from_settings(cls, settings: Settings) -> Oidc | None:
        """None where no provider is set; raises `SignOnUnusable`."""
        if not settings.oidc_issuer:
            return None
        if find_spec("authlib") is None or find_spec("joserfc") is None:
            raise SignOnUnusable("FINGERPOST_OIDC_ISSUER needs two packages more: pip install 'fingerpost[oidc]'")
        if not is_safe(settings.oidc_issuer):
            raise SignOnUnusable("FINGERPOST_OIDC_ISSUER: a provider elsewhere must be reached by https")
        if not settings.oidc_client_id:
            raise SignOnUnusable("FINGERPOST_OIDC_CLIENT_ID: say what the provider calls this gateway")
        secret = settings.oidc_client_secret
        registration = Registration(
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id,
            client_secret=secret.get_secret_value() if secret else None,
            scopes=settings.oidc_scopes,
            claim=settings.oidc_claim,
            roles=roles_of(settings.oidc_roles),
        )
        return cls(registration)

    @property
    def name(self) -> str:
        """The provider's host, for people."""
        return urlsplit(self._us.issuer).hostname or self._us.issuer

    async def begin(self, redirect_uri: str) -> Begun:
        """Where to send a browser; raises `Overloaded` where the provider does not answer."""
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        state, nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        async with _provider() as client:
            metadata = await self._metadata(client)
        challenge = create_s256_code_challenge(verifier)  # type: ignore[no-untyped-call]
        pkce = {"code_challenge": challenge, "code_challenge_method": "S256"}
        where, who = metadata["authorization_endpoint"], self._us.client_id
        url = prepare_grant_uri(where, who, "code", redirect_uri, self._us.scopes, state, nonce=nonce, **pkce)
        return Begun(str(url), state, nonce, verifier)

    async def finish(self, redirect_uri: str, code: str, begun: Begun) -> Person:
        """Who logged in; raises `SignOnRefused` or `Overloaded`."""
        async with _provider() as client:
            metadata = await self._metadata(client)
            token = await self._token(client, metadata["token_endpoint"], redirect_uri, code, begun.verifier)
            claims = self._proven(token, await _json(client, metadata["jwks_uri"]), begun.nonce)
            if self._said(claims) is None and metadata.get("userinfo_endpoint"):
                claims = await self._more(client, metadata["userinfo_endpoint"], claims, token)
        return self._person(claims)

    async def _metadata(self, client: httpx.AsyncClient) -> Mapping[str, Any]:
        """What the provider says of itself; it must be the one that was asked for."""
        found = await _json(client, f"{self._us.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self._us.issuer:
            raise SignOnRefused("The provider names itself otherwise than FINGERPOST_OIDC_ISSUER does.")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
            if (name in found or name != "userinfo_endpoint") and not is_safe(str(found.get(name, ""))):
                raise SignOnRefused(f"The provider's {name} is not https.")
        return found

    async def _token(
        self, client: httpx.AsyncClient, url: str, redirect_uri: str, code: str, verifier: str
    ) -> Mapping[str, Any]:
        """What the provider gives for the code; our secret goes in a header, encoded as RFC 6749, 2.3.1 has it."""
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self._us.client_id,
        }
        headers = {"accept": "application/json"}
        if self._us.client_secret:
            pair = f"{quote_plus(self._us.client_id)}:{quote_plus(self._us.client_secret)}"
            headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        answer = await client.post(url, data=fields, headers=headers)
        if 400 <= answer.status_code < 500:
            log.warning("single sign-on: the provider refused the code (%d)", answer.status_code)
            raise SignOnRefused("The provider refused the login; try again.")
        return _object(answer)

    def _proven(self, token: Mapping[str, Any], keys: Any, nonce: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet

        registry = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._us.issuer},
            aud={"essential": True, "value": self._us.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        try:
            claims = jwt.decode(str(token.get("id_token", "")), KeySet.import_key_set(keys), list(ALGORITHMS)).claims
            registry.validate(claims)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise SignOnRefused("The provider's ID token does not hold; log in again.") from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()) or (
            several and claims.get("azp") != self._us.client_id
        ):
            raise SignOnRefused("The provider's ID token belongs to another login; log in again.")
        return dict(claims)

    async def _more(
        self, client: httpx.AsyncClient, url: str, claims: dict[str, Any], token: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Some providers say what somebody belongs to only here; it must be of the same person."""
        found = await _json(client, url, authorization=f"Bearer {token.get('access_token', '')}")
        if found.get("sub") != claims["sub"]:
            raise SignOnRefused("The provider speaks of somebody else; log in again.")
        return {**found, **claims}

    def _said(self, claims: Mapping[str, Any]) -> Any:
        """The claim that says somebody's role; `a.b` is `b` in `a`."""
        found: Any = claims.get(self._us.claim)
        if found is None:
            found = claims
            for name in self._us.claim.split("."):
                found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def _person(self, claims: Mapping[str, Any]) -> Person:
        said = self._said(claims)
        values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        roles = [self._us.roles[value] for value in values if isinstance(value, str) and value in self._us.roles]
        if not roles:
            raise SignOnRefused("You are known, but nothing says that you may see this: ask whoever runs the gateway.")
        role = Role.ADMIN if Role.ADMIN in roles else Role.EDITOR if Role.EDITOR in roles else Role.VIEWER
        name = claims.get("email") or claims.get("preferred_username") or claims.get("name") or ""
        return Person(f"oidc:{str(name)[:SAFE_CHARS]}/{str(claims['sub'])[:SAFE_CHARS]}", role)


@asynccontextmanager
async def _provider() -> AsyncIterator[httpx.AsyncClient]:
    """A client for one login; follows no redirects. What the network raises is told as `Overloaded`."""
    import httpx

    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as client:
            yield client
    except (httpx.HTTPError, ValueError) as error:
        log.warning("single sign-on: the provider does not answer (%s)", type(error).__name__)
        raise Overloaded("The provider of single sign-on does not answer just now; try again shortly.") from error


async def _json(client: httpx.AsyncClient, url: str, **headers: str) -> Mapping[str, Any]:
    return _object(await client.get(url, headers=headers))


def _object(answer: httpx.Response) -> Mapping[str, Any]:
    found = answer.raise_for_status().json()
    if not isinstance(found, dict):
        raise ValueError("a JSON object was expected")
    return found


def is_safe(url: str) -> bool:
    """Whether nobody between here and there can read along: https, or this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    return parts.scheme == "http" and (host == "localhost" or _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
