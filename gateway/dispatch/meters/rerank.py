"""The meter of reranking: whole answers only, input tokens only, in the spellings of Cohere, Jina and vLLM."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from gateway.dispatch.meters.base import Usage, price, shown_cost
from gateway.dispatch.meters.chat_wire import UNREADABLE, fields_of
from policies.catalogue import ModelCard

Count = Annotated[int, Meta(ge=0, le=2**40)]


class _Usage(Struct):
    prompt_tokens: Count | None = None
    total_tokens: Count | None = None


class _Units(Struct):
    input_tokens: float | None = None


class _Remarks(Struct):
    billed_units: _Units | None = None
    tokens: _Units | None = None


class RerankMeter:
    """`prompt_tokens` is our own estimate, which counts where the upstream tells nothing."""

    def __init__(self, card: ModelCard, prompt_tokens: int, at: float | None = None) -> None:
        self._card = card
        self._at = at
        self._usage = Usage(prompt_tokens, estimated=True)

    def whole(self, body: bytes) -> bytes:
        """The same answer with its cost; `UpstreamBroken` for what is none."""
        fields: dict[str, Any] = dict(fields_of(body, "results"))
        told = _told(fields.get("usage"), fields.get("meta"))
        if told is not None:
            self._usage = Usage(told)
        try:
            shown: dict[str, Any] = msgspec.json.decode(fields.get("usage") or b"{}", type=dict[str, Any])
        except UNREADABLE:
            shown = {}
        usage = self.settle()
        shown.setdefault("prompt_tokens", usage.input_tokens)
        shown.setdefault("total_tokens", usage.input_tokens)
        if usage.estimated:
            shown["estimated"] = True
        return msgspec.json.encode(fields | {"usage": shown | {"cost": shown_cost(usage, self._card)}})

    def settle(self) -> Usage:
        """Usage as reported, or our estimate."""
        return price(self._usage, self._card, self._at)


def _told(usage: Raw | None, remarks: Raw | None) -> int | None:
    """The input tokens that an upstream tells of."""
    try:
        found = msgspec.json.decode(usage or b"{}", type=_Usage)
        meta = msgspec.json.decode(remarks or b"{}", type=_Remarks)
    except UNREADABLE:
        return None
    units = [found.prompt_tokens, found.total_tokens]
    units += [int(one.input_tokens) for one in (meta.billed_units, meta.tokens) if one and one.input_tokens]
    return next(filter(None, units), None)
