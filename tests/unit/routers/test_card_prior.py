"""What a card alone says of a model."""

from __future__ import annotations

import numpy as np
import pytest

from policies.catalogue import ModelCard
from routers.card_prior import CardPrior


def card(name: str, **facts: object) -> ModelCard:
    return ModelCard.model_validate({"id": name, "context_tokens": 1000, **facts})


def by_size(count: int = 12) -> tuple[list[ModelCard], list[float]]:
    sizes = [float(2**step) for step in range(count)]
    return [card(f"m{size:g}", params_b=size) for size in sizes], [0.2 + 0.05 * step for step in range(count)]


def test_the_weights_of_any_card_sum_to_one() -> None:
    cards, usual = by_size()
    prior = CardPrior.fit(cards, np.array(usual))

    weights = prior.weights([card("other", params_b=30.0, release="2024-05"), card("bare"), cards[3]])

    assert weights.shape == (3, 12)
    assert np.allclose(weights.sum(axis=1), 1)


def test_what_sizes_tell_is_told_of_a_new_size() -> None:
    cards, usual = by_size()
    prior = CardPrior.fit(cards, np.array(usual))

    small, large = prior.weights([card("s", params_b=1.5), card("l", params_b=1500.0)]) @ np.array(usual)

    assert small < 0.3 and large > 0.65


def test_a_family_speaks_for_its_own() -> None:
    cards = [card(f"{name}-{place}", family=name) for name in ("good", "poor") for place in range(5)]
    usual = np.array([0.9] * 5 + [0.3] * 5)
    prior = CardPrior.fit(cards, usual)

    good, poor, other = prior.weights([card("x", family="good"), card("y", family="poor"), card("z")]) @ usual

    assert good > other > poor
    assert other == pytest.approx(0.6, abs=0.05)


def test_the_worth_of_a_prior_falls_with_its_error() -> None:
    cards, usual = by_size()
    scattered = np.random.default_rng(0).permutation(usual)

    told, guessed = CardPrior.fit(cards, np.array(usual)), CardPrior.fit(cards, scattered)

    assert told.variance < guessed.variance
    assert told.strength(np.array(usual)) > guessed.strength(scattered)


@pytest.mark.parametrize("count", [1, 2])
def test_of_one_or_two_models_the_mean_is_all_that_is_told(count: int) -> None:
    cards, usual = by_size(count)
    prior = CardPrior.fit(cards, np.array(usual))

    assert np.allclose(prior.weights([card("new", params_b=5.0)]), 1 / count)


def test_arrays_bring_back_the_same_prior() -> None:
    cards, usual = by_size()
    prior = CardPrior.fit(cards, np.array(usual))

    again = CardPrior.from_arrays(prior.words, prior.arrays())

    assert np.allclose(again.weights(cards), prior.weights(cards), atol=1e-6)
    with pytest.raises(ValueError, match="do not fit"):
        CardPrior.from_arrays(prior.words[1:], prior.arrays())


def test_a_price_of_nothing_tells_nothing() -> None:
    prices = [float(2**step) for step in range(12)]
    cards = [card(f"m{price:g}", price_in_usd_per_mtok=price, price_out_usd_per_mtok=price) for price in prices]
    prior = CardPrior.fit(cards, np.linspace(0.2, 0.8, 12))

    free, untold = card("x", price_in_usd_per_mtok=0, price_out_usd_per_mtok=0), card("x")

    assert np.array_equal(prior.columns([free]), prior.columns([untold]))


def test_a_card_far_beyond_all_known_ones_is_taken_for_no_further_out_than_three_deviations() -> None:
    cards, usual = by_size()
    prior = CardPrior.fit(cards, np.array(usual))

    far, farther = prior.weights([card("x", params_b=1e6), card("x", params_b=1e9)]) @ np.array(usual)

    assert far == farther


def test_a_stated_guess_moves_a_new_model_half_way_and_none_leaves_it_where_those_alike_are() -> None:
    cards, usual = by_size()
    prior = CardPrior.fit(cards, np.array(usual))

    alike = prior.usual(card("x", params_b=64.0), np.array(usual))
    poor = prior.usual(card("x", params_b=64.0, prior_quality=0.1), np.array(usual))

    assert alike == pytest.approx(float(prior.weights([card("x", params_b=64.0)])[0] @ usual))
    assert poor / (1 - poor) == pytest.approx((alike / (1 - alike) * 0.1 / 0.9) ** 0.5)
