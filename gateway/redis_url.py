"""Where a Redis is and how to get in, from a URL; messages never carry the URL, which may hold a password."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

PORT: Final = 6379
_FORMS: Final = "redis://[user:password@]host[:port][/db], rediss://... (TLS) or unix:///path/to/socket[?db=0]"
_TLS_OPTIONS: Final = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs"})


class RedisUrlError(ValueError):
    """A Redis URL that can't be used; the message says how to mend it."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """`path` names a Unix socket and stands in place of host and port; `tls` None means plain text."""

    host: str
    port: int
    path: str | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """The address as it may be shown."""
        return self.path or f"{self.host}:{self.port}/{self.db}"


def parse_redis_url(url: str) -> RedisAddress:
    """The address behind a URL, in the spellings of redis-py; raises `RedisUrlError`."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or PORT
    except ValueError:
        raise RedisUrlError(f"the Redis URL cannot be parsed; expected {_FORMS}") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise RedisUrlError(f"the Redis URL must have the form {_FORMS}")
    options = dict(parse_qsl(parts.query))
    unknown = set(options) - {"db"} - (_TLS_OPTIONS if parts.scheme == "rediss" else set())
    if unknown:
        raise RedisUrlError(f"the Redis URL has options that are not known: {', '.join(sorted(unknown))}")
    if parts.scheme == "unix" and not parts.path:
        raise RedisUrlError("the Redis URL names no socket; expected unix:///path/to/socket")
    return RedisAddress(
        host=unquote(parts.hostname or "localhost"),
        port=port,
        path=unquote(parts.path) if parts.scheme == "unix" else None,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        db=_database(parts, options),
        tls=_tls(options) if parts.scheme == "rediss" else None,
    )


def _database(parts: SplitResult, options: dict[str, str]) -> int:
    text = options.get("db") or ("" if parts.scheme == "unix" else parts.path.strip("/")) or "0"
    if not (text.isascii() and text.isdecimal()):
        raise RedisUrlError("the Redis URL's database must be a number, as in redis://host:6379/0")
    return int(text)


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
        if "ssl_certfile" in options:
            context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    except OSError as error:
        raise RedisUrlError(f"the Redis URL's certificate files cannot be read: {error.strerror or error}") from error
    if options.get("ssl_cert_reqs", "required") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
