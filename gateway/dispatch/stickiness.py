"""Which endpoint a conversation keeps to, so that its vendor's prompt cache hits. Stateless: all workers agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import msgspec

from gateway.wire.chat_request import ChatRequest, Message, text_of
from routers.decision import Query

# No vendor caches shorter prompts, and a single turn of this length begins a conversation worth keeping.
LEAST_TOKENS = 1024
# Of each message only this much is hashed: enough to tell conversations apart, cheap for long documents.
HASHED_CHARS = 4096
# An endpoint is passed over while it carries so many times what the others do on average, and enough to matter.
CROWDED = 2.0
NEVER_CROWDED_CALLS = 4
_64_BITS = 2**64 - 1


def session_of(request: ChatRequest, query: Query, caller_key_id: str, header: str | None) -> str | None:
    """The conversation a request belongs to, as 16 hex digits; None where stickiness would gain nothing.

    In this order: the header `x-fingerpost-session`; the body's `prompt_cache_key`, OpenAI's field for just this; the
    system prompt with the first user message, which stay the same from turn to turn. The last counts only from the
    second turn on, or for prompts of `LEAST_TOKENS`. `user` is not looked at: it names a person or a whole application,
    and would send all their traffic to one endpoint. Keys never share a session, whatever they name it.
    """
    named = header or _cache_key(request)
    if named:
        return _digest(caller_key_id, "named", named)
    if query.features.turns < 2 and query.features.tokens < LEAST_TOKENS:
        return None
    return _digest(caller_key_id, *_prefix(request.envelope.messages))


def keep_to(session: str, endpoints: Sequence[str], weights: Sequence[float], in_flight: Sequence[int]) -> list[int]:
    """All indices in the order in which this session should try the endpoints; the same on every worker.

    Weighted rendezvous hashing (Thaler and Ravishankar, 1998): each endpoint of n gets sessions in proportion to its
    weight, and when one leaves only its own sessions move. Crowded endpoints come last (after the bounded loads of
    Mirrokni, Thorup and Zadimoghaddam, 2018).
    """
    number = int(session, 16)
    heights = [weight / math.log(_unit(number, _salt(name))) for name, weight in zip(endpoints, weights, strict=True)]
    places = sorted(range(len(endpoints)), key=heights.__getitem__)
    if max(in_flight) >= NEVER_CROWDED_CALLS:
        places.sort(key=_crowded(in_flight, weights).__getitem__)
    return places


def _crowded(in_flight: Sequence[int], weights: Sequence[float]) -> list[bool]:
    """For each endpoint whether it has far more to do for its weight than the others have on average."""
    calls, shares = sum(in_flight), sum(weights)
    return [
        mine >= NEVER_CROWDED_CALLS and mine * (shares - weight) > CROWDED * (calls - mine) * weight
        for mine, weight in zip(in_flight, weights, strict=True)
    ]


def _cache_key(request: ChatRequest) -> str | None:
    fields = request.original.fields if request.original is not None else request.fields
    raw = fields.get("prompt_cache_key")
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return None  # the upstream's business


def _prefix(messages: Sequence[Message]) -> list[str]:
    """What stays the same from turn to turn: all up to the first user message."""
    parts: list[str] = []
    for message in messages:
        parts.append(text_of(message)[:HASHED_CHARS])
        if message.role == "user":
            break
    return parts


def _digest(*parts: str) -> str:
    return blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _unit(session: int, salt: int) -> float:
    """A number between 0 and 1, both excluded, that looks drawn at random (the finish of SplitMix64)."""
    mixed = session ^ salt
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _64_BITS
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _64_BITS
    return ((mixed ^ mixed >> 31) >> 12) / 2**52 + 2**-54


@lru_cache(maxsize=4096)
def _salt(endpoint: str) -> int:
    return int.from_bytes(blake2b(endpoint.encode(), digest_size=8).digest())
