"""The planted truth can be recovered, and moves as it is told to."""

from __future__ import annotations

import numpy as np
import pytest

from routers.training.simulator import logged, make_world, simulate


def test_the_same_arguments_make_the_same_world_and_data() -> None:
    one, two = (simulate(make_world(seed=3), 40, 5) for _ in range(2))

    assert one.dataset.sha256() == two.dataset.sha256()
    assert one.dataset.sha256() != simulate(make_world(seed=3), 40, 6).dataset.sha256()
    assert np.array_equal(one.quality, two.quality)


def test_mean_scores_come_to_the_true_quality() -> None:
    found = simulate(make_world(seed=1), 4000, 2)

    gap = np.abs(found.dataset.score.mean(axis=0) - found.quality.mean(axis=0))

    assert gap.max() < 4 * np.sqrt(0.25 / 4000)


def test_a_question_s_place_tells_its_skills() -> None:
    world = make_world(seed=1)
    found = simulate(world, 500, 2)

    nearest = (found.dataset.inputs.embeddings @ world.prototypes.T).argmax(axis=1)

    assert (nearest == found.skills.argmax(axis=1)).mean() > 0.9


@pytest.mark.parametrize(("signal", "low", "high"), [(1.0, 0.85, 1.0), (0.0, -0.2, 0.2)])
def test_cards_tell_as_much_of_ability_as_was_planted(signal: float, low: float, high: float) -> None:
    world = make_world(models=400, skills=6, card_signal=signal, seed=4)

    sizes = np.log([card.params_b or 1 for card in world.cards])
    told = np.corrcoef(sizes, world.abilities.mean(axis=1))[0, 1]

    assert low <= told <= high


def test_costs_are_tokens_at_the_card_s_price() -> None:
    data = simulate(make_world(), 30, 0).dataset
    card = data.models[2]
    assert card.price_in_usd_per_mtok is not None and card.price_out_usd_per_mtok is not None

    by_hand = (
        data.input_tokens[:, 2] * card.price_in_usd_per_mtok + data.output_tokens[:, 2] * card.price_out_usd_per_mtok
    )

    assert data.cost_usd[:, 2] * 1e6 == pytest.approx(by_hand, rel=1e-6)


def test_drift_moves_abilities_and_leaves_cards() -> None:
    world = make_world()

    later = world.drifted(seed=1, size=0.5)

    assert 0.3 < float(np.std(later.abilities - world.abilities)) < 0.7
    assert later.cards == world.cards
    assert np.array_equal(later.prototypes, world.prototypes)


def test_new_models_come_behind_the_old_ones() -> None:
    world = make_world(models=5)

    grown = world.with_new_models(3, seed=9)

    assert grown.cards[:5] == world.cards and len({card.id for card in grown.cards}) == 8
    assert np.array_equal(grown.abilities[:5], world.abilities)
    assert simulate(grown, 10, 0).dataset.score.shape == (10, 8)


def test_density_hides_pairs_and_all_that_is_known_of_them() -> None:
    data = simulate(make_world(), 500, 0, density=0.25).dataset

    assert 0.2 < data.observed.mean() < 0.3
    assert np.isnan(data.cost_usd[~data.observed]).all() and np.isnan(data.output_tokens[~data.observed]).all()


def test_a_log_has_one_model_a_question_as_often_as_its_propensity_says() -> None:
    data = simulate(make_world(models=3), 6000, 0).dataset

    log = logged(data, [0.6, 0.3, 0.1], seed=1)

    assert log.propensity is not None
    assert (log.observed.sum(axis=1) == 1).all()
    assert log.observed.mean(axis=0) == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    assert np.unique(log.propensity[log.observed]) == pytest.approx([0.1, 0.3, 0.6])
    assert np.array_equal(log.score[log.observed], data.score[log.observed])


def test_propensities_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        logged(simulate(make_world(models=2), 5, 0).dataset, [0.5, 0.6], seed=0)
