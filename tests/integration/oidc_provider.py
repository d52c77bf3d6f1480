"""A small OpenID Connect provider over HTTP: it knows one client and logs in whoever comes, as the person it is set to.

It checks what a careful provider checks (client, redirect address, PKCE, each code once), and can be told to lie.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote_plus, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "fingerpost console", "a secret & more"


@dataclass
class Provider:
    """`person` is who logs in next, `lies` what is put over the ID token's claims, `key` what signs it."""

    url: str = ""
    person: dict[str, Any] = field(default_factory=dict)
    lies: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    issuer_said: str = ""
    forged: str = ""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))
    other_key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one"}))

    def metadata(self) -> dict[str, Any]:
        """The discovery document."""
        paths = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        found = {name: f"{self.url}/{path}" for name, path in paths.items()}
        more = {"userinfo_endpoint": f"{self.url}/userinfo"} if self.userinfo else {}
        return {"issuer": self.issuer_said or self.url, **found, **more}

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser is sent back to."""
        assert asked["response_type"] == "code" and asked["client_id"] == CLIENT and "openid" in asked["scope"].split()
        assert asked["code_challenge_method"] == "S256" and asked["nonce"]
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, given: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Tokens for a code; None where anything about it is wrong."""
        asked = self.codes.pop(given.get("code", ""), None)
        expected = base64.b64encode(f"{quote_plus(CLIENT)}:{quote_plus(SECRET)}".encode()).decode()
        if asked is None or authorization != f"Basic {expected}" or given["redirect_uri"] != asked["redirect_uri"]:
            return None
        challenge = base64.urlsafe_b64encode(hashlib.sha256(given["code_verifier"].encode()).digest()).rstrip(b"=")
        if challenge.decode() != asked["code_challenge"]:
            return None
        return {"access_token": "access", "token_type": "Bearer", "id_token": self.id_token(asked["nonce"])}

    def id_token(self, nonce: str) -> str:
        """Signed as it should be, unless told otherwise."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "nonce": nonce, "iat": now, "exp": now + 300, **self.person}
        claims = {name: value for name, value in (claims | self.lies).items() if value is not None}
        if self.forged == "unsigned":
            parts = [json.dumps({"alg": "none"}), json.dumps(claims), ""]
            return ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts)
        key = self.other_key if self.forged == "signature" else self.key
        return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)


def _answering(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/authorize":
                self._send(302, b"", location=provider.authorize(asked))
            elif parts.path == "/userinfo" and self.headers["authorization"] == "Bearer access":
                self._json(provider.userinfo)
            elif parts.path == "/keys":
                self._json({"keys": [provider.key.as_dict(private=False)]})
            else:
                self._json(provider.metadata())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            given = {name: values[0] for name, values in parse_qs(body).items()}
            found = provider.token(given, self.headers.get("authorization", ""))
            if found is None:
                self._send(400, b'{"error": "invalid_grant"}')
            else:
                self._json(found)

        def _json(self, value: object) -> None:
            self._send(200, json.dumps(value).encode())

        def _send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, text in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    return Answering


@contextmanager
def providing() -> Iterator[Provider]:
    """The provider on a free port of this machine."""
    provider = Provider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _answering(provider))
    provider.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
