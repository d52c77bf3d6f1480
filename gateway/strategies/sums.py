"""What the calls of one request took together, for its record and for the client. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gateway.ledger.record import Record


@dataclass(slots=True)
class Sums:
    """Over the calls that have begun, in OpenAI's counting. `cost_nanousd` holds what is known of the cost, None where
    nothing is; `complete` says whether every call's price is known."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    images: int = 0
    reserved_nanousd: int = 0
    cost_nanousd: int | None = None
    estimated: bool = False
    complete: bool = True

    def usage(self) -> dict[str, Any]:
        """The usage object of a chat answer."""
        told: dict[str, Any] = {
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }
        if self.cache_write_tokens:
            told["prompt_tokens_details"]["cache_write_tokens"] = self.cache_write_tokens
        if self.estimated:
            told["estimated"] = True
        return told | {"cost": self.cost_usd}

    @property
    def cost_usd(self) -> float | None:
        """What clients are told: US dollars, None where some call's price is unknown."""
        return None if self.cost_nanousd is None or not self.complete else self.cost_nanousd / 1e9


def sums_of(records: Iterable[Record]) -> Sums:
    """Add up the records of calls; those that never began count as nothing."""
    sums = Sums()
    for one in records:
        if one.input_tokens is None:
            continue
        sums.calls += 1
        sums.input_tokens += one.input_tokens
        sums.output_tokens += one.output_tokens or 0
        sums.cached_tokens += one.cached_tokens or 0
        sums.cache_write_tokens += one.cache_write_tokens or 0
        sums.reasoning_tokens += one.reasoning_tokens or 0
        sums.audio_tokens += one.audio_tokens or 0
        sums.images += one.images or 0
        sums.reserved_nanousd += one.reserved_nanousd or 0
        sums.estimated |= one.usage_estimated
        if one.cost_nanousd is None:
            sums.complete = False
        else:
            sums.cost_nanousd = (sums.cost_nanousd or 0) + one.cost_nanousd
    return sums
