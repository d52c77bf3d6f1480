"""How much to set aside for a call: upper bounds on its tokens, learned from what calls really took.

Prompt: `16 + q99 * estimate`, where q99 is the conformal upper quantile of (reported - 16) / estimate for the model
(1.35 before that is known). Output: `q90 * forecast`, where the forecast is the router's 90th percentile and q90 the
conformal upper quantile of output / forecast for model and category (conformalised quantile regression, Romano et al.
2019, with ratios as scores), so that P(output <= reserved) >= 0.9 also where the forecast is wrong. An answer that is
not seen while it is written can't be paid for by and by, so its money covers the 99th percentile; tokens per minute
are always those of q90. Answers that were cut off count as "at least so long".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.admission.base import Need
from gateway.admission.quantiles import UpperQuantile
from gateway.admission.seeds import Seed, seeds_of
from gateway.wire.chat_request import ChatRequest
from policies.catalogue import Modality, ModelCard
from routers.decision import Query, Ranked

PROMPT_CONSTANT: Final = 16
PROMPT_LEVEL: Final = 0.99
PROMPT_START: Final = 1.35
MEDIA_START: Final = 2.0
OUTPUT_LEVEL: Final = 0.9
# What a model thinks before it answers is billed too, and no forecast knows of it before it was seen.
REASONING_START: Final = 4.0
# The 99th percentile in 90th ones, for a spread as wide as that of the router's prior (log-normal, 90th = 3 medians).
OUTER_START: Final = 2.5
CATEGORY_TRUSTED: Final = 50
MOST_MODELS: Final = 1024
MOST_CATEGORIES: Final = 64
# A finish of one of these kinds, in any dialect, or none at all, means that more would have come.
CUT: Final = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded", "MAX_TOKENS"})


class Used(Protocol):
    """What this file needs of `Usage`."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def estimated(self) -> bool: ...


def _prompts(start: float) -> UpperQuantile:
    return UpperQuantile(PROMPT_LEVEL, start, lowest=1 / 8, octaves=8, steps=16)


@dataclass(slots=True, eq=False)
class _Model:
    """What is known of one model."""

    card: ModelCard
    output: UpperQuantile
    prompt: UpperQuantile = field(default_factory=lambda: _prompts(PROMPT_START))
    media: UpperQuantile = field(default_factory=lambda: _prompts(MEDIA_START))
    categories: dict[str, UpperQuantile] = field(default_factory=dict)

    def factors(self, category: str) -> UpperQuantile:
        """What a forecast of output is multiplied with."""
        known = self.categories.get(category)
        return known if known is not None and known.count >= CATEGORY_TRUSTED else self.output

    def see_prompt(self, estimated: int, real: int, text_only: bool) -> None:
        if estimated > 0 and real > 0:
            (self.prompt if text_only else self.media).add(max(real - PROMPT_CONSTANT, 1) / estimated)

    def see_output(self, category: str, ratio: float, cut: bool) -> None:
        self.output.add(ratio, cut)
        known = self.categories.get(category)
        if known is None:
            if len(self.categories) >= MOST_CATEGORIES:
                return
            known = self.categories[category] = _outputs(self.card)
        known.add(ratio, cut)


def _outputs(card: ModelCard) -> UpperQuantile:
    start = REASONING_START if card.reasoning else 1.0
    return UpperQuantile(OUTPUT_LEVEL, start, outer_start=start * OUTER_START)


class Estimates:
    """One per process; forgets slowly, in step with what it sees, and is bounded in memory."""

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}

    def need(self, ranked: Ranked, query: Query, request: ChatRequest) -> Need:
        """What to set aside if this endpoint answers."""
        card, forecast, features = ranked.candidate.card, ranked.forecast, query.features
        model = self._models.get(card.id) or self._add(card)
        text_only = len(features.modalities) == 1
        prompt = _prompt_tokens(features.tokens, model.prompt if text_only else model.media, card)
        high, most = forecast.output_tokens_high, most_output(features.max_output_tokens, card)
        usual = output = most  # a forecast that met the bound says nothing of what would come without it
        if high < most:
            factors = model.factors(query.category)
            usual = output = min(max(ceil(high * factors.value), 1), most)
            if not request.stream or card.reasoning:
                output = min(max(ceil(high * factors.outer), 1), most)
        choices = request.choices
        cost = _dearest_nanousd(card, prompt, output * choices, query, request)
        return Need(forecast.endpoint_id, card, cost, prompt + usual * choices, output * choices)

    def prompt_need(self, endpoint_id: str, card: ModelCard, tokens: int) -> Need:
        """What to set aside for a call that has no output, such as an embedding; `tokens` as `estimate_tokens` says."""
        model = self._models.get(card.id) or self._add(card)
        prompt = _prompt_tokens(tokens, model.prompt, card)
        return Need(endpoint_id, card, card.cost_nanousd(prompt, 0), prompt, 0)

    def learn(
        self, ranked: Ranked, query: Query, usage: Used, finish_reason: str | None, choices: int | None = None
    ) -> None:
        """What a call of `choices` answers (None: one) really took; `finish_reason` None where it did not end."""
        card, features = ranked.candidate.card, query.features
        model = self._models.get(card.id) or self._add(card)
        if not usage.estimated:
            model.see_prompt(features.tokens, usage.input_tokens, len(features.modalities) == 1)
        forecast = ranked.forecast.output_tokens_high
        bounded = forecast >= most_output(features.max_output_tokens, card)
        if usage.output_tokens > 0 and forecast > 0 and not bounded and (choices or 1) == 1:
            cut = finish_reason is None or finish_reason in CUT
            model.see_output(query.category, usage.output_tokens / forecast, cut)

    def learn_prompt(self, card: ModelCard, tokens: int, usage: Used) -> None:
        """What a call without output really took, of which we thought that it had `tokens`."""
        if not usage.estimated:
            (self._models.get(card.id) or self._add(card)).see_prompt(tokens, usage.input_tokens, True)

    async def seed(self, engine: AsyncEngine, cards: Iterable[ModelCard], per_model: int = 200) -> int:
        """Learn from each model's last calls in the ledger; how many there were. Raises `DatabaseUnavailable`."""
        seen = 0
        for card in cards:
            for seed in await seeds_of(engine, card.id, per_model):
                self._learn_seed(card, seed)
                seen += 1
        return seen

    def _learn_seed(self, card: ModelCard, seed: Seed) -> None:
        model = self._models.get(card.id) or self._add(card)
        if not seed.estimated:
            model.see_prompt(seed.prompt_estimate, seed.input_tokens, seed.text_only)
        bounded = seed.forecast >= most_output(seed.max_output_tokens, card)
        if seed.output_tokens > 0 and seed.forecast > 0 and not bounded:
            ratio = seed.output_tokens / seed.forecast
            model.see_output(seed.category, ratio, seed.finish_reason is None or seed.finish_reason in CUT)

    def _add(self, card: ModelCard) -> _Model:
        if len(self._models) >= MOST_MODELS:
            del self._models[next(iter(self._models))]
        model = self._models[card.id] = _Model(card, _outputs(card))
        return model


def most_output(asked: int | None, card: ModelCard) -> int:
    """The most tokens that one answer can have."""
    most = card.longest_output
    return most if asked is None or asked > most else asked


def _prompt_tokens(estimated: int, ratio: UpperQuantile, card: ModelCard) -> int:
    return min(ceil(estimated * ratio.value) + PROMPT_CONSTANT, card.context_tokens)


def _dearest_nanousd(card: ModelCard, prompt: int, output: int, query: Query, request: ChatRequest) -> int:
    """The cost if every token is of the dearest kind that this call can have, where the card prices kinds apart."""
    special = (
        card.price_cache_write_usd_per_mtok,
        card.price_cache_write_long_usd_per_mtok,
        card.price_reasoning_usd_per_mtok,
        card.price_audio_in_usd_per_mtok,
        card.price_audio_out_usd_per_mtok,
        card.price_image_usd,
    )
    plain = card.cost_nanousd(prompt, output)
    if special == _NO_SPECIAL:
        return plain
    written, kept_long = _cache_writes(request)
    audio = Modality.AUDIO in query.features.modalities
    inputs = [card.cost_nanousd(prompt, 0)]
    if written:
        inputs.append(card.cost_nanousd(prompt, 0, cache_write_tokens=prompt))
    if kept_long:
        inputs.append(card.cost_nanousd(prompt, 0, cache_write_tokens=prompt, cache_write_long_tokens=prompt))
    if audio:
        inputs.append(card.cost_nanousd(prompt, 0, audio_input_tokens=prompt))
    # Above some prompt length all tokens of a call may be dearer, so outputs are priced beside the same prompt.
    outputs = [plain, card.cost_nanousd(prompt, output, reasoning_tokens=output)]
    if "audio" in request.fields:
        outputs.append(card.cost_nanousd(prompt, output, audio_output_tokens=output))
    images = _images(request) if Modality.IMAGE in query.features.modalities else 0
    return max(inputs) - inputs[0] + max(outputs) + card.cost_nanousd(0, 0, images=images)


_NO_SPECIAL: Final = (None,) * 6


def _cache_writes(request: ChatRequest) -> tuple[bool, bool]:
    """Whether the request asks for its prompt to be kept by the vendor, and for the longer of its lifetimes."""
    fields = request.original.fields if request.original is not None else request.fields
    marked = [raw for raw in map(bytes, fields.values()) if b"cache_control" in raw]
    marked_whole = "cache_control" in fields
    return bool(marked) or marked_whole, marked_whole or any(b'"1h"' in raw for raw in marked)


def _images(request: ChatRequest) -> int:
    contents = (message.content for message in request.envelope.messages)
    return sum(part.type in ("image_url", "input_image") for one in contents if isinstance(one, list) for part in one)
