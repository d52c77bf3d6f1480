"""What an upstream's HTTP status means: the request's fault, our credential's, or the upstream's own."""

from __future__ import annotations

import math
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import msgspec

from gateway.errors import (
    GatewayError,
    RefusedUpstream,
    UpstreamAuth,
    UpstreamBroken,
    UpstreamError,
    UpstreamLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.providers.http import HttpReply

REQUEST_IS_WRONG = frozenset({400, 413, 415, 422})
_BODY_LIMIT = 64 * 1024


async def refusal(reply: HttpReply, secret: str | None) -> GatewayError:
    """The error for a reply that is not 200; `secret` is blotted out of any text that is passed on."""
    status = reply.status
    if status in REQUEST_IS_WRONG:
        body = await _body(reply)
        if b"API_KEY_INVALID" not in body:
            return RefusedUpstream(status, error_detail(body, secret))
        status = 401  # Google says 400 of a key that it does not know
    reply.cancel()
    if status in (401, 402, 403):
        return UpstreamAuth("The upstream refused the gateway's own credential; the operator must look at it.")
    if status == 429:
        return UpstreamLimited(
            "The upstream limits the rate of requests.", retry_after_s=retry_after_s(reply.header("Retry-After"))
        )
    if status in (408, 504):
        return UpstreamTimeout(f"The upstream reported a time-out ({status}).")
    if status in (503, 529):
        return UpstreamUnavailable(f"The upstream is overloaded or down ({status}).")
    if 300 <= status < 400:
        return UpstreamBroken("The upstream answered with a redirect, which is never followed.")
    if status < 300:
        return UpstreamBroken(f"The upstream answered {status} without an answer.")
    return UpstreamError(f"The upstream answered {status}.")


def unexpected(kind: str, expected: str, secret: str | None) -> UpstreamBroken:
    """The error for an answer of another content type than the one that was asked for."""
    shown = _text(kind, secret) or "nothing"
    return UpstreamBroken(f"The upstream answered with {shown[:80]} where {expected} was expected.")


def error_detail(body: bytes, secret: str | None) -> dict[str, str | None]:
    """The error object inside an upstream's body, in OpenAI's shape, whatever dress it came in."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = None
    if isinstance(found, list) and found:
        found = found[0]
    if isinstance(found, dict):
        found = found.get("error", found)
    fields = found if isinstance(found, dict) else {"message": found}
    message = _text(fields.get("message") or fields.get("detail"), secret)
    return {
        "message": message or "The upstream refused the request without saying why.",
        "type": _text(fields.get("type"), secret) or "invalid_request_error",
        "param": _text(fields.get("param"), secret),
        "code": _text(fields.get("code"), secret),
    }


def retry_after_s(value: str) -> float | None:
    """Seconds from a Retry-After header (RFC 9110, 10.2.3: a number, or a date)."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), 3600.0) if math.isfinite(seconds) else None


def _text(value: object, secret: str | None) -> str | None:
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    # Blotted out before it is cut, so that no half of it stays.
    return (text.replace(secret, "[redacted]") if secret else text)[:2000]


async def _body(reply: HttpReply) -> bytes:
    try:
        return await reply.read(_BODY_LIMIT)
    except UpstreamError:
        return b""
