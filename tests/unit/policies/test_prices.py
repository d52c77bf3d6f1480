"""Prices by unit, by day and by the length of a prompt: exact, additive, monotone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction
from math import ceil
from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.catalogue import ModelCard
from policies.document import parse_document
from policies.errors import PolicyError
from policies.load import merge_catalogues, parse_catalogue
from policies.prices import PriceRow, Prices

UNITS = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cache_write_tokens",
    "cache_write_long_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "images",
)
COUNTS = st.integers(0, 10**7)
PRICE = st.integers(0, 10**8).map(lambda pico: pico / 1e6)  # whole pico-dollars a token, so that nothing is rounded
FULL = dict.fromkeys(Prices.model_fields, 0.0) | {"price_in_usd_per_mtok": 2.0, "price_out_usd_per_mtok": 8.0}
PARTS = {
    "input_tokens": ("cached_tokens", "cache_write_tokens", "audio_input_tokens"),
    "output_tokens": ("reasoning_tokens", "audio_output_tokens"),
}


def card(**fields: Any) -> ModelCard:
    return ModelCard.model_validate({"id": "m", "context_tokens": 10} | fields)


def at(day: str) -> float:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp()


@st.composite
def cards(draw: st.DrawFn) -> ModelCard:
    return card(
        **{name: draw(PRICE) for name in Prices.model_fields if name != "price_image_usd"}, price_image_usd=0.01
    )


@st.composite
def calls(draw: st.DrawFn) -> dict[str, int]:
    """Counts as vendors give them: parts within their whole."""
    used = {unit: draw(COUNTS) for unit in UNITS}
    used["cache_write_long_tokens"] = min(used["cache_write_long_tokens"], used["cache_write_tokens"])
    for whole, parts in PARTS.items():
        used[whole] += sum(used[part] for part in parts)
    return used


def exact_nanousd(of: ModelCard, used: dict[str, int]) -> Fraction:
    """The bill as an accountant would write it, in fractions."""
    plain_in = used["input_tokens"] - sum(used[part] for part in PARTS["input_tokens"])
    plain_out = used["output_tokens"] - sum(used[part] for part in PARTS["output_tokens"])
    lines = (
        (plain_in, of.price_in_usd_per_mtok),
        (used["cached_tokens"], of.price_cached_in_usd_per_mtok),
        (used["cache_write_tokens"] - used["cache_write_long_tokens"], of.price_cache_write_usd_per_mtok),
        (used["cache_write_long_tokens"], of.price_cache_write_long_usd_per_mtok),
        (used["audio_input_tokens"], of.price_audio_in_usd_per_mtok),
        (plain_out, of.price_out_usd_per_mtok),
        (used["reasoning_tokens"], of.price_reasoning_usd_per_mtok),
        (used["audio_output_tokens"], of.price_audio_out_usd_per_mtok),
        (used["images"] * 1_000_000, of.price_image_usd),
    )
    return sum((count * Fraction(round((price or 0) * 1e6), 1000) for count, price in lines), Fraction(0))


@given(cards(), calls())
def test_a_cost_is_the_exact_sum_of_its_units_rounded_up_once(of: ModelCard, used: dict[str, int]) -> None:
    assert of.cost_nanousd(**used) == ceil(exact_nanousd(of, used))


@given(cards(), calls(), calls())
def test_two_calls_cost_what_one_of_both_does_but_for_the_rounding(
    of: ModelCard, one: dict[str, int], other: dict[str, int]
) -> None:
    both = of.cost_nanousd(**{unit: one[unit] + other[unit] for unit in UNITS})

    assert both <= of.cost_nanousd(**one) + of.cost_nanousd(**other) <= both + 1


@given(cards(), calls(), st.sampled_from(UNITS), COUNTS)
def test_more_of_anything_never_costs_less(of: ModelCard, used: dict[str, int], unit: str, more: int) -> None:
    grown = used | {unit: used[unit] + more}
    for whole, parts in PARTS.items():
        grown[whole] += more * (unit in parts)
    if unit == "cache_write_long_tokens":
        grown["cache_write_tokens"] += more
        grown["input_tokens"] += more

    assert of.cost_nanousd(**grown) >= of.cost_nanousd(**used)


@given(of=cards(), read=st.integers(0, 10**6), written=st.integers(0, 10**6))
def test_the_rates_of_text_give_the_cost_of_a_plain_call(of: ModelCard, read: int, written: int) -> None:
    of_read, of_written = of.text_rates(read)
    assert ceil(Fraction(of_read * read + of_written * written, 1000)) == of.cost_nanousd(read, written)


def test_a_unit_without_a_price_costs_what_text_of_its_direction_does() -> None:
    plain = card(price_in_usd_per_mtok=2, price_out_usd_per_mtok=8)
    written = card(price_in_usd_per_mtok=2, price_out_usd_per_mtok=8, price_cache_write_usd_per_mtok=2.5)

    used = {"cached_tokens": 10, "cache_write_tokens": 20, "cache_write_long_tokens": 5, "audio_input_tokens": 30}
    assert plain.cost_nanousd(100, 50, reasoning_tokens=10, audio_output_tokens=5, images=3, **used) == 600_000
    assert written.cost_nanousd(100, 0, **used) == 80 * 2000 + 20 * 2500


def test_vendors_that_count_the_cache_beside_the_prompt_are_not_charged_twice() -> None:
    assert card(**FULL | {"price_cached_in_usd_per_mtok": 1}).cost_nanousd(3, 0, cached_tokens=1000) == 1_000_000


CHANGING = card(
    price_in_usd_per_mtok=2,
    price_cached_in_usd_per_mtok=0.5,
    price_out_usd_per_mtok=8,
    price=[
        {"since": "2027-01-01", "price_in_usd_per_mtok": 4},
        {"since": "2026-12-01", "price_in_usd_per_mtok": 3, "price_cached_in_usd_per_mtok": 0.4},
        {"above_input_tokens": 100, "price_out_usd_per_mtok": 12},
        {"above_input_tokens": 100, "since": "2027-02-01", "price_in_usd_per_mtok": 9},
    ],
)


@pytest.mark.parametrize(
    ("day", "tokens", "read", "cached", "written"),
    [
        ("2026-11-30", 100, 2.0, 0.5, 8.0),
        ("2026-12-01", 100, 3.0, 0.4, 8.0),
        ("2027-01-01", 100, 4.0, 0.4, 8.0),
        ("2026-11-30", 101, 2.0, 0.5, 12.0),
        ("2027-01-15", 101, 4.0, 0.4, 12.0),
        ("2027-02-01", 101, 9.0, 0.4, 12.0),
        ("2027-02-01", 100, 4.0, 0.4, 8.0),
    ],
)
def test_the_price_is_that_of_the_day_and_of_the_prompts_length(
    day: str, tokens: int, read: float, cached: float, written: float
) -> None:
    cost = CHANGING.cost_nanousd(tokens, 10, cached_tokens=40, at=at(day))

    assert cost == round(((tokens - 40) * read + 40 * cached + 10 * written) * 1000)
    shown = CHANGING.prices(at(day), tokens)
    assert (shown.price_in_usd_per_mtok, shown.price_cached_in_usd_per_mtok) == (read, cached)


def test_a_day_begins_at_midnight_utc() -> None:
    midnight = at("2026-12-01")

    assert CHANGING.cost_nanousd(50, 0, at=midnight - 0.001) == 100_000
    assert CHANGING.cost_nanousd(50, 0, at=midnight) == 150_000


def test_the_day_since_which_a_price_holds_is_told() -> None:
    assert CHANGING.price_since(at("2026-11-30")) is None
    assert CHANGING.price_since(at("2027-01-31")) == "2027-01-01"
    assert card(**FULL).price_since() is None


def test_without_a_time_the_price_is_todays() -> None:
    passed = PriceRow(since=date(2020, 1, 1), price_in_usd_per_mtok=1)
    coming = PriceRow(since=date(2999, 1, 1), price_in_usd_per_mtok=5)
    of = card(**FULL, price=(coming, passed))

    assert of.cost_nanousd(10, 0) == of.cost_nanousd(10, 0, at=time()) == 10_000
    assert of.price_since() == "2020-01-01"


def test_a_copy_with_other_rows_has_their_prices() -> None:
    dearer = PriceRow(since=date(2020, 1, 1), price_in_usd_per_mtok=10)
    of = card(**FULL)

    assert of.cost_nanousd(10, 0) == 20_000
    assert of.model_copy(update={"price": (dearer,)}).cost_nanousd(10, 0) == 100_000


FLAT = "price_in_usd_per_mtok = 1\nprice_out_usd_per_mtok = 2\n"
ROW = '[[model]]\nid = "m"\ncontext_tokens = 100\n'


@pytest.mark.parametrize(
    ("rows", "line", "said"),
    [
        ('since = "2026-13-01"\nprice_in_usd_per_mtok = 2', 7, 'must be a day, got "2026-13-01". Fix: write year'),
        (
            "since = 2026-12-01\nprice_in_usd_per_mtok = 2",
            7,
            "a date or time is not allowed here. Fix: put it in quotes",
        ),
        ("since = 20261201\nprice_in_usd_per_mtok = 2", 7, "must be a day, got 20261201"),
        ("price_in_usd_per_mtok = 2", 6, "price[#1]: a price row needs 'since' or 'above_input_tokens'. Fix: write"),
        ('since = "2026-12-01"', 6, "a price row names no price. Fix: add the prices that change"),
        ('since = "2026-12-01"\nprice_in_usd_per_mtok = -2', 8, "price_in_usd_per_mtok: must be >= 0, got -2"),
        ('since = "2026-12-01"\nprize = 2', 8, "price[#1].prize: is not a known key. Fix: "),
        ('since = "2026-12-01"\nprice_in_usd_per_mtok = 2e6', 8, "must be <= 1e+06"),
    ],
)
def test_a_fault_of_a_price_row_is_told_with_its_line(rows: str, line: int, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_catalogue(f"{ROW}{FLAT}[[model.price]]\n{rows}\n", "c.toml")

    assert any(one.startswith(f"c.toml:{line}: model[m]") and said in one for one in str(caught.value).splitlines())


TWICE = '[[model.price]]\nsince = "2026-12-01"\nprice_in_usd_per_mtok = 2\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROW + TWICE, "price rows need price_in_usd_per_mtok and price_out_usd_per_mtok beside them. Fix: add both"),
        (ROW + FLAT + TWICE * 2, "two price rows have the same 'since' and 'above_input_tokens'. Fix: keep one"),
    ],
)
def test_rows_that_do_not_fit_one_another_are_refused(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=r"c\.toml:1: model") as caught:
        parse_catalogue(text, "c.toml")

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("over", "rows", "price"),
    [
        ("description = 'x'", 1, 1.0),
        ("price_in_usd_per_mtok = 7", 0, 7.0),
        ("price = []", 0, 1.0),
        ("price_in_usd_per_mtok = 7\n[[model.price]]\nabove_input_tokens = 5\nprice_in_usd_per_mtok = 8", 1, 7.0),
    ],
)
def test_a_price_of_ones_own_is_not_undone_by_shipped_rows(over: str, rows: int, price: float) -> None:
    below, above = (parse_document(text, "f.toml") for text in (ROW + FLAT + TWICE, f'[[model]]\nid = "m"\n{over}\n'))

    (found,) = merge_catalogues(below, above).model

    assert (len(found.price), found.price_in_usd_per_mtok) == (rows, price)
