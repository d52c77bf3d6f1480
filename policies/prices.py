"""Prices of a model, by unit, by day and by the length of the prompt, in whole pico-dollars inside.

Pure: the only thing asked of the world is today's date, and only of models whose price has changed or will.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from time import time
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

UsdPerMtok = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]

_DAY_S = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_EVER = -(2**62)  # before any time
_ANY = -1  # below any number of tokens


class Prices(BaseModel):
    """USD per million tokens (images: USD each). None means unknown, 0 free.

    A unit without a price of its own costs what text of its direction costs: cached, written to a cache and audio
    input as input, reasoning and audio output as output; a cache write of the longer lifetime as any cache write. An
    image without a price costs nothing beside its tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    price_in_usd_per_mtok: UsdPerMtok | None = None
    price_out_usd_per_mtok: UsdPerMtok | None = None
    price_cached_in_usd_per_mtok: UsdPerMtok | None = None
    price_cache_write_usd_per_mtok: UsdPerMtok | None = None
    price_cache_write_long_usd_per_mtok: UsdPerMtok | None = None
    price_reasoning_usd_per_mtok: UsdPerMtok | None = None
    price_audio_in_usd_per_mtok: UsdPerMtok | None = None
    price_audio_out_usd_per_mtok: UsdPerMtok | None = None
    price_image_usd: UsdPerMtok | None = None

    def named(self) -> dict[str, float]:
        """The prices that are known."""
        fields = {name: getattr(self, name) for name in Prices.model_fields}
        return {name: price for name, price in fields.items() if price is not None}


class PriceRow(Prices):
    """One `[[model.price]]` row: what changes on a day, or for long prompts; prices that it does not name stay.

    It holds from the beginning of the day `since` (UTC; None: ever since) on, for calls of more than
    `above_input_tokens` input tokens (cached ones included), and then for all tokens of the call.
    """

    since: date | None = None
    above_input_tokens: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.since is None and not self.above_input_tokens:
            raise ValueError("a price row needs 'since' or 'above_input_tokens'")
        if not self.named():
            raise ValueError("a price row names no price")
        return self

    @property
    def begins(self) -> int:
        """Unix time of the first second of its first day."""
        return _EVER if self.since is None else (self.since.toordinal() - _EPOCH) * _DAY_S


class Rates(NamedTuple):
    """Pico-dollars of one unit each, in force from a Unix time on, for calls above a number of input tokens."""

    begins: int
    above: int
    read: int
    cached: int
    cache_write: int
    cache_write_long: int
    audio_in: int
    written: int
    reasoned: int
    audio_out: int
    image: int


def rates_of(flat: Prices, rows: Iterable[PriceRow]) -> tuple[Rates, ...]:
    """Every price list there is; of those that apply to a call the first is right.

    Rows are laid over `flat` in the order of their days, those for long prompts over those for all.
    """
    rows = tuple(rows)
    times = sorted({_EVER, *(row.begins for row in rows)}, reverse=True)
    lengths = sorted({_ANY, *(row.above_input_tokens or _ANY for row in rows)}, reverse=True)
    return tuple(_rates(begins, above, _laid(flat, rows, begins, above)) for above in lengths for begins in times)


def prices_at(flat: Prices, rows: Iterable[PriceRow], at: float | None, input_tokens: int = 0) -> Prices:
    """The prices of a call of so many input tokens at a Unix time (None: now), as an operator would write them."""
    return _laid(flat, rows, time() if at is None else at, input_tokens - 1)


def _laid(flat: Prices, rows: Iterable[PriceRow], moment: float, above: int) -> Prices:
    prices = flat.named()
    for row in sorted(rows, key=lambda row: (row.above_input_tokens, row.begins)):
        if row.begins <= moment and (row.above_input_tokens or _ANY) <= above:
            prices |= row.named()
    return Prices(**prices)


def rates_at(lists: tuple[Rates, ...], input_tokens: int, at: float | None) -> Rates:
    """The price list of a call of so many input tokens at a Unix time (None: now)."""
    moment = time() if at is None else at
    for rates in lists:
        if input_tokens > rates.above and moment >= rates.begins:
            return rates
    return lists[-1]


def since_at(rows: Iterable[PriceRow], at: float | None) -> str | None:
    """The ISO day since which the prices of a Unix time hold; None where they have always held."""
    moment = time() if at is None else at
    begun = [row.since for row in rows if row.since is not None and row.begins <= moment]
    return max(begun).isoformat() if begun else None


def _rates(begins: int, above: int, prices: Prices) -> Rates:
    read, written = prices.price_in_usd_per_mtok, prices.price_out_usd_per_mtok
    cache_write = _first(prices.price_cache_write_usd_per_mtok, read)
    return Rates(
        begins,
        above,
        _pico(read),
        _pico(_first(prices.price_cached_in_usd_per_mtok, read)),
        _pico(cache_write),
        _pico(_first(prices.price_cache_write_long_usd_per_mtok, cache_write)),
        _pico(_first(prices.price_audio_in_usd_per_mtok, read)),
        _pico(written),
        _pico(_first(prices.price_reasoning_usd_per_mtok, written)),
        _pico(_first(prices.price_audio_out_usd_per_mtok, written)),
        _pico(prices.price_image_usd) * 1_000_000,
    )


def _first(price: float | None, otherwise: float | None) -> float | None:
    return price if price is not None else otherwise


def _pico(usd_per_million: float | None) -> int:
    """USD per million is micro-dollars each, a million pico-dollars."""
    return round((usd_per_million or 0.0) * 1_000_000)
