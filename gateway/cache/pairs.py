"""Judges pairs of requests: may the second be told what the first was answered? Reads texts, calls nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Raw, Struct

from gateway.cache.control import control_of
from gateway.cache.identity import Identity, Scope, Tenant, group_of, identify
from gateway.errors import GatewayError
from gateway.wire.chat_request import parse_chat
from policies.schema import CacheMode

# Whether the answer to the first text is the answer to the second, both of one partition.
Verify = Callable[[str, str], bool]


class Pair(Struct):
    """One row: two chat bodies with their tenants. `may_share` null: allowed, not required."""

    id: int | str
    a: Raw
    b: Raw
    tenant_a: str
    tenant_b: str
    may_share: bool | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`served` is how the second request got the first one's answer: exact, semantic, or None; `why` where not."""

    id: int | str
    may_share: bool | None
    served: str | None
    why: str
    reason: str

    @property
    def is_right(self) -> bool:
        return self.may_share is None or self.may_share == (self.served is not None)


_PAIR = msgspec.json.Decoder(Pair)


def read_pairs(lines: Iterable[bytes]) -> Iterator[Pair]:
    """A pair a line; `ValueError` names the line that is none."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield _PAIR.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"line {number} is no pair of requests: {error}") from error


def same_text(first: str, second: str) -> bool:
    """The verifier of those who have none."""
    return first == second


def judge(pair: Pair, verify: Verify = same_text) -> Verdict:
    """As the cache would with the first request's answer just kept; `ValueError` names a body that is no request."""
    kept, asked = _Side.of(pair, pair.a, pair.tenant_a), _Side.of(pair, pair.b, pair.tenant_b)
    served, why = _served(kept, asked, verify)
    return Verdict(pair.id, pair.may_share, served, why, pair.reason)


@dataclass(frozen=True, slots=True)
class _Side:
    identity: Identity
    stores: bool
    reads: bool

    @classmethod
    def of(cls, pair: Pair, body: Raw, tenant: str) -> _Side:
        try:
            request = parse_chat(bytes(body))
            control = control_of(request)
        except GatewayError as error:
            raise ValueError(f"pair {pair.id}: {error.message}") from error
        scope = Scope(Tenant("tenant", tenant), group_of("", (request.envelope.model,)), key=tenant)
        return cls(identify(request, scope, control=control), control.stores, control.reads)


def _served(kept: _Side, asked: _Side, verify: Verify) -> tuple[str | None, str]:
    first, second = kept.identity, asked.identity
    for side in (first, second):
        if side.allowed.mode is CacheMode.OFF:
            return None, side.allowed.reason
    if not kept.stores or not asked.reads:
        return None, "the first is not kept" if not kept.stores else "the second wants a fresh answer"
    if first.exact == second.exact:
        return "exact", ""
    if first.partition != second.partition:
        return None, "tenant, model or context differ"
    for side in (first, second):
        if side.allowed.mode is not CacheMode.SEMANTIC:
            return None, side.allowed.reason
    return ("semantic", "") if verify(first.text, second.text) else (None, "the texts differ")
