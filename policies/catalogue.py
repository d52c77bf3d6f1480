"""What a model is (`ModelCard`), where it is served (`Endpoint`), and both together (`Catalogue`).

Pure data: reading TOML is `policies.load`'s business, resolving `env:NAME` references the gateway's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

ENV_PREFIX = "env:"

Slug = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")]
UsdPerMtok = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]


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


class ModelCard(BaseModel):
    """One `[[model]]` row: facts about a model that hold wherever it is served.

    Prices are USD per million tokens; a missing input or output price means *unknown*, zero means free.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    task: Task = Task.CHAT
    context_tokens: int = Field(gt=0)
    max_output_tokens: int | None = Field(default=None, gt=0)
    modalities: tuple[Modality, ...] = (Modality.TEXT,)
    tools: bool = False
    json_schema: bool = False
    logprobs: bool = False
    dimensions: int | None = Field(default=None, gt=0)
    price_in_usd_per_mtok: UsdPerMtok | None = None
    price_out_usd_per_mtok: UsdPerMtok | None = None
    price_cached_in_usd_per_mtok: UsdPerMtok | None = None
    price_reasoning_usd_per_mtok: UsdPerMtok | None = None
    prior_quality: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)
    description: str = ""

    @property
    def priced(self) -> bool:
        """Whether the cost of a call can be computed."""
        return self.price_in_usd_per_mtok is not None and self.price_out_usd_per_mtok is not None

    def cost_nanousd(
        self, input_tokens: int, output_tokens: int, cached_tokens: int = 0, reasoning_tokens: int = 0
    ) -> int:
        """Cost of one call in nano-dollars, rounded up; 0 where the price is unknown.

        `cached_tokens` are part of `input_tokens`, `reasoning_tokens` part of `output_tokens` (OpenAI's counting).
        """
        read, cached, written, reasoned = self._picousd_per_token
        pico = (
            max(input_tokens - cached_tokens, 0) * read
            + cached_tokens * cached
            + max(output_tokens - reasoning_tokens, 0) * written
            + reasoning_tokens * reasoned
        )
        return -(-pico // 1000)

    @cached_property
    def _picousd_per_token(self) -> tuple[int, int, int, int]:
        """Pico-dollars of one input, cached input, output and reasoning token; kept since every decision asks."""
        return (
            _picousd(self.price_in_usd_per_mtok),
            _picousd(self.price_cached_in_usd_per_mtok, self.price_in_usd_per_mtok),
            _picousd(self.price_out_usd_per_mtok),
            _picousd(self.price_reasoning_usd_per_mtok, self.price_out_usd_per_mtok),
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's; the copy works its prices out anew."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("_picousd_per_token", None)
        return copied


def _picousd(price: float | None, otherwise: float | None = None) -> int:
    """Price of one token in pico-dollars (USD per million tokens is micro-dollars per token)."""
    chosen = price if price is not None else otherwise
    return round((chosen or 0.0) * 1_000_000)


class Endpoint(BaseModel):
    """One `[[endpoint]]` row: where a model is served and how long we wait for it.

    `base_url` and `key_ref` may be `env:NAME`; such an endpoint is enabled only while NAME is set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    model: Slug
    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    base_url: str | None = None
    wire_model: str = ""
    key_ref: str | None = Field(default=None, pattern=r"^env:[A-Za-z_][A-Za-z0-9_]*$")
    connect_timeout_s: Seconds = 5.0
    first_byte_timeout_s: Seconds = 60.0
    idle_timeout_s: Seconds = 30.0
    total_timeout_s: Seconds = 600.0
    weight: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    typical_latency_ms: float = Field(default=800.0, ge=0, allow_inf_nan=False)
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
