"""Models that are known, and any other by its card."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policies.catalogue import ModelCard
from routers.artifact import ArtifactError
from routers.card_prior import CardPrior
from routers.roster import Roster
from tests.contract.planted import fitted, outcomes, stranger

CARDS = [ModelCard(id=f"m{place}", context_tokens=1000, params_b=float(2**place)) for place in range(6)]
USUAL = np.array([0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def roster(usual: np.ndarray = USUAL) -> Roster:
    table = np.column_stack(
        [usual, np.full(6, 0.05), np.full(6, 100.0), np.full(6, 5.0), np.full(6, 0.7), np.full(6, np.nan)]
    )
    return Roster([card.id for card in CARDS], table, np.empty((0, 6)), CardPrior.fit(CARDS, usual))


def labels(scores: list[float], tokens: float = 50.0) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    column = np.array(scores, dtype=np.float32)[:, None]
    return column, np.full_like(column, np.log(tokens)), (np.zeros_like(column), np.zeros_like(column))


def test_known_models_keep_their_places() -> None:
    plan = roster().plan([CARDS[4], CARDS[1]])

    deviations = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert plan.usual.tolist() == pytest.approx([0.7, 0.4])
    assert (plan.spread(deviations) == deviations[:, [4, 1]]).all()


def test_a_stranger_deviates_as_models_alike_do() -> None:
    plan = roster().plan([CARDS[0], ModelCard(id="new", context_tokens=1000, params_b=32.0)])

    deviations = np.zeros((1, 6), dtype=np.float32)
    deviations[0, 3:] = 0.2
    assert plan.usual[1] > 0.6
    assert plan.spread(deviations)[0, 1] > 0.1


def test_a_plan_is_kept_for_the_same_cards() -> None:
    known = roster()

    assert known.plan(CARDS) is known.plan(list(CARDS))
    assert known.plan(CARDS) is not known.plan(CARDS[1:])


def test_labels_move_a_stranger_far_and_a_known_model_little() -> None:
    new = ModelCard(id="new", context_tokens=1000)
    good, known = labels([1.0] * 16), roster(USUAL[[3, 0, 5, 1, 4, 2]])

    taught = known.taught([new], *good).taught([CARDS[1]], *good)

    before, after = known.plan([new, CARDS[1]]), taught.plan([new, CARDS[1]])
    assert after.usual[0] - before.usual[0] > 0.25
    assert 0 < after.usual[1] - before.usual[1] < 0.15
    assert after.doubt[0] < before.doubt[0]
    assert after.tokens[0] < before.tokens[0]


def test_a_label_counts_without_the_query_s_own_ease() -> None:
    new = ModelCard(id="new", context_tokens=1000)
    score, length, (_, nothing) = labels([1.0] * 16)

    easy = roster().taught([new], score, length, (np.full_like(score, 0.4), nothing))
    plain = roster().taught([new], score, length, (np.zeros_like(score), nothing))

    assert easy.plan([new]).usual[0] < plain.plan([new]).usual[0]


def test_a_model_without_labels_stays_a_stranger() -> None:
    taught = roster().taught([ModelCard(id="new", context_tokens=1000)], *labels([float("nan")] * 3))

    assert taught.ids == roster().ids


def test_lengths_of_forgotten_labels_teach_nothing() -> None:
    new, known = ModelCard(id="new", context_tokens=1000), roster()
    score, length, told = labels([1.0, 1.0])
    score[1], length[1] = np.nan, 20.0

    taught, alone = known.taught([new], score, length, told), known.taught([new], *labels([1.0]))

    assert taught.plan([new]).tokens[0] == pytest.approx(alone.plan([new]).tokens[0])


def test_labels_one_by_one_are_labels_at_once() -> None:
    new = ModelCard(id="new", context_tokens=1000)
    at_once = roster().taught([new], *labels([1.0, 0.0, 1.0]))

    one_by_one = roster()
    for score in (1.0, 0.0, 1.0):
        one_by_one = one_by_one.taught([new], *labels([score]))

    assert one_by_one.plan([new]).usual[0] == pytest.approx(at_once.plan([new]).usual[0], abs=1e-5)


@pytest.mark.parametrize("name", ["roster", "roster_mix", "card_solution"])
def test_arrays_that_do_not_fit_are_refused(name: str) -> None:
    artifact = fitted("mean").artifact

    cut = replace(artifact, arrays={**artifact.arrays, name: artifact.arrays[name][:, :-1]})

    with pytest.raises(ArtifactError, match="models can't be read"):
        Roster.of(cut)


def test_taught_routers_forecast_a_good_stranger_above_a_poor_one() -> None:
    data = outcomes()
    rows = data.rows(np.arange(32)).columns([0])
    good, poor = (
        fitted("ridge").with_outcomes(replace(rows, models=(stranger(),), score=np.full_like(rows.score, value)))
        for value in (1.0, 0.0)
    )

    one, other = (router.predict(data.inputs, [stranger()]).quality.mean() for router in (good, poor))

    assert one > other + 0.4


def test_an_artifact_from_before_means_were_known_is_read_as_if_they_were_medians() -> None:
    artifact, data = fitted("ridge").artifact, outcomes()
    older = replace(artifact, arrays={name: one for name, one in artifact.arrays.items() if name != "roster_means"})

    assert (Roster.of(older).plan(data.models).mean_ratio == 1).all()
    assert (Roster.of(artifact).plan(data.models).mean_ratio != 1).any()
    assert Roster.of(artifact).plan([stranger()]).mean_ratio[0] != 1
