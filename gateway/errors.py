"""The one tree of errors; a class owns its HTTP status, its OpenAI `code` and whether a retry may help.

    GatewayError
    ├── InvalidRequest 400 ── ContextTooLong, UnsupportedCapability
    ├── MissingKey, InvalidKey 401 · PaymentRequired 402 ── BudgetExceeded, PriceUnknown
    ├── Forbidden, ModelNotAllowed 403 · ModelNotFound, NotFound 404 · RateLimited 429 (our own limits)
    ├── MethodNotAllowed 405 · Conflict 409 · Stale 412 · BodyTooLarge 413 · BodyTimeout 408
    ├── RefusedUpstream (the upstream's own 4xx, relayed)
    ├── Overloaded 503 ── NoEndpoint
    └── UpstreamError 502 ── UpstreamBroken, UpstreamAuth · UpstreamLimited 429
                              UpstreamUnavailable 503 (AddressForbidden) · UpstreamTimeout 504

Foreign errors are mapped into this tree once, where they enter: providers, admission, wire.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec


class GatewayError(Exception):
    """Base of everything a client may be told; also the answer to our own bugs (500, no detail leaks)."""

    status: ClassVar[int] = 500
    code: ClassVar[str | None] = "internal_error"
    kind: ClassVar[str] = "server_error"
    retry_may_help: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def http_status(self) -> int:
        """The status a client sees."""
        return self.status

    def detail(self) -> dict[str, str | None]:
        """The OpenAI-shaped error object."""
        return {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}

    def body(self) -> bytes:
        """`{"error": {...}}` as JSON."""
        return msgspec.json.encode({"error": self.detail()})


class InvalidRequest(GatewayError):
    status, code, kind = 400, "invalid_request", "invalid_request_error"


class ContextTooLong(InvalidRequest):
    code = "context_length_exceeded"


class UnsupportedCapability(InvalidRequest):
    code = "unsupported_capability"


class MissingKey(GatewayError):
    status, code, kind = 401, "missing_api_key", "authentication_error"


class InvalidKey(GatewayError):
    status, code, kind = 401, "invalid_api_key", "authentication_error"


class PaymentRequired(GatewayError):
    """Money stands in the way; trying again does not help until somebody acts or a budget's window ends."""

    status, code, kind = 402, "payment_required", "insufficient_quota"


class BudgetExceeded(PaymentRequired):
    """`budget_id` is the budget that refused; None where a bound of the request itself did."""

    code = "budget_exceeded"

    def __init__(self, message: str, *, budget_id: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.budget_id = budget_id


class PriceUnknown(PaymentRequired):
    code = "price_unknown"


class RateLimited(GatewayError):
    """One of our own limits; what upstreams limit is `UpstreamLimited`."""

    status, code, kind, retry_may_help = 429, "rate_limit_exceeded", "rate_limit_error", True


class Forbidden(GatewayError):
    status, code, kind = 403, "forbidden", "permission_error"


class ModelNotAllowed(Forbidden):
    code = "model_not_allowed"


class NotFound(GatewayError):
    status, code, kind = 404, "not_found", "invalid_request_error"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(GatewayError):
    status, code, kind = 405, "method_not_allowed", "invalid_request_error"


class Conflict(GatewayError):
    """What is asked for does not go together with what is there."""

    status, code, kind = 409, "conflict", "invalid_request_error"


class Stale(GatewayError):
    """Somebody else was quicker (RFC 9110, 13.1.1: If-Match)."""

    status, code, kind = 412, "precondition_failed", "invalid_request_error"


class ClientLeft(GatewayError):
    """Nobody is there to be told; the status is the ledger's, as nginx has it."""

    status, code = 499, "client_disconnected"


class BodyTimeout(GatewayError):
    status, code, kind = 408, "request_timeout", "invalid_request_error"


class BodyTooLarge(GatewayError):
    status, code, kind = 413, "body_too_large", "invalid_request_error"


class Overloaded(GatewayError):
    status, code, retry_may_help = 503, "overloaded", True


class NoEndpoint(Overloaded):
    code = "no_endpoint_available"


class RefusedUpstream(GatewayError):
    """The upstream says that the request itself is wrong: its status and error object reach the client."""

    kind = "invalid_request_error"

    def __init__(self, status: int, detail: dict[str, str | None]) -> None:
        super().__init__(detail.get("message") or f"The upstream refused the request ({status}).")
        self._status = status
        self._detail = {**detail, "code": detail.get("code") or "refused_upstream"}

    @property
    def http_status(self) -> int:
        return self._status

    def detail(self) -> dict[str, str | None]:
        return self._detail


class NotCached(GatewayError):
    """The request wants a cached answer and no other (RFC 9111, 5.2.1.7)."""

    status, code, kind = 504, "not_cached", "invalid_request_error"


class UpstreamError(GatewayError):
    """Something failed behind the gateway; another endpoint may do better."""

    status, code, kind, retry_may_help = 502, "upstream_error", "upstream_error", True


class UpstreamBroken(UpstreamError):
    """The upstream answered something that is no answer: HTML, broken JSON, half a stream, a redirect."""

    code = "upstream_broken"


class UpstreamAuth(UpstreamError):
    """The upstream refused *our* credential; never shown to the client as its own 401."""

    code, retry_may_help = "upstream_auth", False


class UpstreamLimited(UpstreamError):
    status, code, kind = 429, "rate_limit_exceeded", "rate_limit_error"


class UpstreamUnavailable(UpstreamError):
    status, code = 503, "upstream_unavailable"


class AddressForbidden(UpstreamUnavailable):
    """The operator allows no calls to where the endpoint's name leads; that stays so until somebody acts."""

    retry_may_help = False


class UpstreamTimeout(UpstreamError):
    status, code = 504, "upstream_timeout"
