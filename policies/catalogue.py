"""What a model is (`ModelCard`), where it is served (`Endpoint`), and both together (`Catalogue`).

Pure data: reading TOML is `policies.load`'s business, resolving `env:NAME` references the gateway's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.prices import PriceRow, Prices, Rates, prices_at, rates_at, rates_of, since_at

ENV_PREFIX = "env:"
SECRET_PREFIX = "secret:"  # noqa: S105 - a word, not a secret

Slug = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
# OpenAI's request forms for text: /chat/completions, /completions, /responses.
WireDialect = Literal["chat", "completions", "responses"]


class Modality(StrEnum):
    """What a model accepts as input."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    FILE = "file"


class Task(StrEnum):
    """Which kind of request a model answers."""

    CHAT = "chat"
    EMBEDDING = "embedding"
    RERANK = "rerank"


class ModelCard(Prices):
    """One `[[model]]` row: facts about a model that hold wherever it is served, and its prices.

    The prices of the row itself hold ever since, until a row of `price` says otherwise; a missing input or output
    price means *unknown*. `reasoning` says that the model may produce output that is billed and never shown.
    """

    id: Slug
    task: Task = Task.CHAT
    context_tokens: int = Field(gt=0)
    max_output_tokens: int | None = Field(default=None, gt=0)
    modalities: tuple[Modality, ...] = (Modality.TEXT,)
    tools: bool = False
    json_schema: bool = False
    logprobs: bool = False
    reasoning: bool = False
    dimensions: int | None = Field(default=None, gt=0)
    price: tuple[PriceRow, ...] = ()
    prior_quality: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    description: str = ""
    organisation: str = ""
    family: str = Field(default="", description="models of one family are forecast alike, such as 'llama-3'")
    base_model: str = Field(default="", description="the model that this one is a variant of")
    params_b: float | None = Field(default=None, gt=0, description="parameters, in thousand millions")
    active_params_b: float | None = Field(default=None, gt=0, description="parameters that one token uses")
    open_weights: bool | None = None
    tuning: str = Field(default="", description="'chat', 'base' and so on")
    release: str = Field(default="", pattern=r"^(\d{4}(-\d{2}){0,2})?$", description="year, month: 2024-07")

    @model_validator(mode="after")
    def _price_rows_change_a_known_price(self) -> Self:
        if self.price and not self.priced:
            raise ValueError("price rows need price_in_usd_per_mtok and price_out_usd_per_mtok beside them")
        if len({(row.begins, row.above_input_tokens) for row in self.price}) < len(self.price):
            raise ValueError("two price rows have the same 'since' and 'above_input_tokens'")
        return self

    @property
    def priced(self) -> bool:
        """Whether the cost of a call can be computed."""
        return self.price_in_usd_per_mtok is not None and self.price_out_usd_per_mtok is not None

    @cached_property
    def longest_output(self) -> int:
        """Tokens that an answer can't exceed."""
        return self.max_output_tokens or self.context_tokens

    def prices(self, at: float | None = None, input_tokens: int = 0) -> Prices:
        """The prices of a call of so many input tokens at the Unix time `at` (None: now), for people."""
        return prices_at(self, self.price, at, input_tokens)

    def price_since(self, at: float | None = None) -> str | None:
        """The ISO day since which the price of a Unix time (None: now) holds; None where it always has."""
        return since_at(self.price, at) if self.price else None

    def cost_nanousd(
        self,
        input_tokens: int,
        output_tokens: int,
        cached_tokens: int = 0,
        reasoning_tokens: int = 0,
        *,
        cache_write_tokens: int = 0,
        cache_write_long_tokens: int = 0,
        audio_input_tokens: int = 0,
        audio_output_tokens: int = 0,
        images: int = 0,
        at: float | None = None,
    ) -> int:
        """Cost of one call in nano-dollars, rounded up, at the price of the Unix time `at` (None: now).

        Counting is OpenAI's: cached, cache-write and audio input are part of `input_tokens`, reasoning and audio
        output part of `output_tokens`, the longer-lived cache writes part of `cache_write_tokens`. An unknown input or
        output price counts as 0.
        """
        lists = self._rates
        rates = lists[0] if len(lists) == 1 else rates_at(lists, input_tokens, at)
        _, _, read, cached, cache_write, cache_write_long, audio_in, written, reasoned, audio_out, image = rates
        special = cached_tokens + cache_write_tokens + audio_input_tokens
        plain = input_tokens - special
        pico = plain * read if plain > 0 else 0
        if special:
            pico += cached_tokens * cached + audio_input_tokens * audio_in + cache_write_long_tokens * cache_write_long
            pico += max(cache_write_tokens - cache_write_long_tokens, 0) * cache_write
        special = reasoning_tokens + audio_output_tokens
        plain = output_tokens - special
        if plain > 0:
            pico += plain * written
        if special:
            pico += reasoning_tokens * reasoned + audio_output_tokens * audio_out
        return -(-(pico + images * image) // 1000)

    def text_rates(self, input_tokens: int) -> tuple[int, int]:
        """Pico-dollars now of a token read and of one written, in a call of so many input tokens; 0 where unknown.

        For who reckons many outputs' costs: ceil((read x input + written x output) / 1000) is `cost_nanousd`.
        """
        steady = self.steady_rates
        if steady is not None:
            return steady
        rates = rates_at(self._rates, input_tokens, None)
        return rates[2], rates[7]

    @cached_property
    def steady_rates(self) -> tuple[int, int] | None:
        """`text_rates` where they are the same for every call; None where they depend on its day or length. A card that
        knows only one of the two prices has none."""
        if not self.priced:
            return 0, 0
        rates, *others = self._rates
        return None if others else (rates[2], rates[7])

    @cached_property
    def _rates(self) -> tuple[Rates, ...]:
        """Kept since every decision asks."""
        return rates_of(self, self.price)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; the copy works its prices out anew."""
        copied = super().model_copy(update=update, deep=deep)
        for derived in ("_rates", "steady_rates", "longest_output"):
            copied.__dict__.pop(derived, None)
        return copied


class Endpoint(BaseModel):
    """One `[[endpoint]]` row: where a model is served and how long we wait for it.

    `base_url` and `key_ref` may be `env:NAME`; such an endpoint is enabled only while NAME is set. `key_ref` may also
    be `secret:NAME`, a key that the gateway keeps encrypted. `dialects` are the
    forms that an endpoint of provider "openai" takes as clients send them; the others are translated into "chat".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    model: Slug
    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    base_url: str | None = None
    wire_model: str = ""
    key_ref: str | None = Field(default=None, pattern=r"^(env|secret):[A-Za-z_][A-Za-z0-9_]*$")
    connect_timeout_s: Seconds = 5.0
    first_byte_timeout_s: Seconds = 60.0
    idle_timeout_s: Seconds = 30.0
    total_timeout_s: Seconds = 600.0
    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    typical_latency_ms: float = Field(default=800.0, ge=0, allow_inf_nan=False)
    dialects: tuple[WireDialect, ...] = Field(default=("chat",), min_length=1)
    enabled: bool = True

    @model_validator(mode="after")
    def _url_is_usable(self) -> Self:
        url = self.base_url
        if url is not None and not url.startswith((ENV_PREFIX, "http://", "https://")):
            raise ValueError("base_url must start with http://, https:// or env:NAME")
        if url is None and self.provider != "local":
            raise ValueError("base_url is required for every provider but 'local'")
        return self

    def env_names(self) -> tuple[str, ...]:
        """Names of the environment variables that must be set before this endpoint can be used."""
        refs = (self.key_ref, self.base_url)
        return tuple(ref.removeprefix(ENV_PREFIX) for ref in refs if ref and ref.startswith(ENV_PREFIX))

    @property
    def secret_name(self) -> str | None:
        """Name of the encrypted key that this endpoint needs, None where it needs none."""
        ref = self.key_ref or ""
        return ref.removeprefix(SECRET_PREFIX) if ref.startswith(SECRET_PREFIX) else None


class Catalogue(BaseModel):
    """All models and endpoints, ids unique, every endpoint pointing to a known model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: tuple[ModelCard, ...] = ()
    endpoint: tuple[Endpoint, ...] = ()

    @model_validator(mode="after")
    def _ids_are_consistent(self) -> Self:
        _refuse_duplicates("model", (card.id for card in self.model))
        _refuse_duplicates("endpoint", (row.id for row in self.endpoint))
        known = {card.id for card in self.model}
        for row in self.endpoint:
            if row.model not in known:
                raise ValueError(f"endpoint '{row.id}' names model '{row.model}', which no [[model]] row defines")
        return self

    def card(self, model_id: str) -> ModelCard | None:
        """The card of a model id, or None."""
        return next((card for card in self.model if card.id == model_id), None)


def _refuse_duplicates(kind: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise ValueError(f"{kind} id '{one}' appears twice; ids must be unique")
        seen.add(one)
