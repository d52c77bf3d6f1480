"""What strategies share: whom to ask, how samples are asked for, how answers are quoted to another model. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from gateway.describe import describe
from gateway.dispatch.eligible import lacks
from gateway.strategies.base import Ask, Call, Panel, Seat
from gateway.wire.chat_edit import as_sample, as_whole, with_logprobs
from gateway.wire.chat_request import ChatRequest
from policies.catalogue import ModelCard
from policies.schema import StrategySpec
from routers.decision import Query
from routers.features import estimate_tokens

LEFT_OUT = "\n[... shortened ...]\n"
# Of a shortened answer the end is kept rather than the beginning: that is where conclusions stand.
_SHARE_OF_START = 0.35
LEAST_QUOTED_TOKENS = 50


def among(seats: Sequence[Seat], patterns: Sequence[str]) -> list[Seat]:
    """Those whose model one of the patterns names, in their order; all where there is no pattern."""
    if not patterns:
        return list(seats)
    return [one for one in seats if any(fnmatchcase(one.card.id, pattern) for pattern in patterns)]


def seat_of(seats: Sequence[Seat], model: str | None) -> Seat | None:
    """The seat of one model, if it may answer this request."""
    return next((one for one in seats if one.card.id == model), None)


def best_forecast(seats: Sequence[Seat]) -> list[Seat]:
    """By forecast quality, best first; equals stay in the decision's order."""
    return sorted(seats, key=lambda seat: -seat.forecast.quality)


def why_not_texts(request: ChatRequest) -> str | None:
    """Why answers to a request can't be compared or merged as texts, as half a sentence; None where they can."""
    envelope = request.envelope
    if envelope.tools or envelope.functions:
        return "the request offers tools"
    if request.choices != 1:
        return "the request wants several choices"
    if "audio" in request.fields:
        return "the request wants audio"
    if envelope.messages[-1].role != "user":
        return "the conversation does not end with a user's message"
    return None


def sample_asks(panel: Panel, spec: StrategySpec, count: int, first: int = 0, *, logprobs: bool = False) -> list[Ask]:
    """Asks for samples number `first` and on: of the model that the router ranks first, or of those that `models`
    names, in turn."""
    seats = among(panel.seats, spec.models) if spec.models else list(panel.seats[:1])
    seats = seats or list(panel.seats[:1])
    request = as_whole(panel.request)
    asks = []
    for number in range(first, first + count):
        seat = seats[number % len(seats)]
        asked = as_sample(request, number, spec.temperature)
        asks.append(
            Ask("sample", seat, with_logprobs(asked) if logprobs and seat.card.logprobs else asked, panel.query)
        )
    return asks


def fitted(request: ChatRequest, query: Query, card: ModelCard) -> Query | None:
    """The query of a request that was made longer; None where it no longer fits the model."""
    longer = replace(query, features=describe(request).features)
    return None if lacks(longer.features, card) else longer


def quoted(calls: Sequence[Call], answer_tokens: int) -> str:
    """Answers, each of a bounded length, numbered and between tags that none of them can have foreseen."""
    mark = secrets.token_hex(4)
    return "\n\n".join(
        f"<answer-{mark} number={number}>\n{shortened(call.text, answer_tokens)}\n</answer-{mark}>"
        for number, call in enumerate(calls, 1)
    )


def shortened(text: str, tokens: int) -> str:
    """A text of about so many tokens at most; what is left out is left out of its middle."""
    counted = estimate_tokens(text)
    if counted <= tokens:
        return text
    kept = max(int(len(text) * tokens / counted), 1)
    start = int(kept * _SHARE_OF_START)
    return text[:start] + LEFT_OUT + text[len(text) - (kept - start) :]
