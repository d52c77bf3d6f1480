"""The seam of meters: what a call used and cost, told by the frames that pass. Knows no dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from policies.catalogue import ModelCard


@dataclass(slots=True)
class Usage:
    """What one call used, in OpenAI's counting, into which the meters of all dialects convert.

    `cached_tokens`, `cache_write_tokens` and `audio_input_tokens` are part of `input_tokens`, `reasoning_tokens` and
    `audio_output_tokens` of `output_tokens`, `cache_write_long_tokens` (for the longer of a vendor's two lifetimes,
    where it tells them apart, such as Anthropic's hour) of `cache_write_tokens`. Dialects that count these beside each
    other add them up. `images` are pictures billed by the piece. `cost_nanousd` counts an unknown price as 0.
    `estimated`: the upstream did not say, and we counted.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_long_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    images: int = 0
    cost_nanousd: int = 0
    estimated: bool = False


class Meter(Protocol):
    """Watches the frames of one reply, in its dialect; made as `meter_class(dialect)(card, prompt_tokens, wants, at)`.

    `prompt_tokens` is our own estimate, `wants_usage` says whether the client asked for a stream's usage, `at` is the
    request's Unix time, which picks the price of its day (None: now).
    """

    def __init__(self, card: ModelCard, prompt_tokens: int, wants_usage: bool, at: float | None = None) -> None: ...

    @property
    def done(self) -> bool:
        """Whether the client has been sent the regular end."""

    @property
    def finish_reason(self) -> str | None:
        """Why the answer ended, in the upstream's own word."""

    @property
    def running_cost_nanousd(self) -> int:
        """What the call has cost so far: the prompt, and somewhat more output than was seen. Cheap at every frame."""

    def whole(self, body: bytes) -> bytes:
        """Meter a whole answer; the same body with its cost. `UpstreamBroken` for what is no answer."""

    def stream(self, frame: bytes) -> bytes:
        """Meter one frame (one or more whole events); what the client may see of it, may be empty."""

    def weigh(self, event: bytes) -> int:
        """Output tokens that an event, not streamed yet, would add at most; makes `running_cost_nanousd` exact.

        Of no event at all (b""): how many those before it may still turn out to have had.
        """

    def end_of_stream(self) -> bytes:
        """What is owed when the upstream's bytes end; `UpstreamBroken` when the answer was cut off."""

    def cut(self) -> bytes:
        """End a stream whose budget ran out: the regular end of an answer that met its length, with its usage."""

    def settle(self) -> Usage:
        """Usage as reported, or estimated from what was seen; may be asked at any time, more than once."""


def price(usage: Usage, card: ModelCard, at: float | None = None) -> Usage:
    """The same usage with its cost at the card's price of the day `at` (Unix seconds; None: now)."""
    usage.cost_nanousd = card.cost_nanousd(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_long_tokens=usage.cache_write_long_tokens,
        audio_input_tokens=usage.audio_input_tokens,
        audio_output_tokens=usage.audio_output_tokens,
        images=usage.images,
        at=at,
    )
    return usage


def shown_cost(usage: Usage, card: ModelCard) -> float | None:
    """What clients see as `cost`: US dollars, None where the price is unknown."""
    return usage.cost_nanousd / 1e9 if card.priced else None
