"""Off-policy estimates against truth that is known: unbiased, enclosed, and silent where nothing can be known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routers.training.dataset import Doubles
from routers.training.logs import Logs, draw
from routers.training.offpolicy import compare, dearest_call, difference_lows, evaluate
from routers.training.reward_model import features_of
from routers.training.support import Needs, NoSupport, weights_of
from tests.unit.routers.training.judged import DATA

MODELS = ("a", "b", "c")


def world(seed: int, rows: int = 1500) -> tuple[Doubles, Doubles, Doubles]:
    """Contexts [N, 4], every model's reward [N, 3], and the probabilities of a policy that logs with them."""
    rng = np.random.default_rng(seed)
    contexts = rng.normal(size=(rows, 4))
    chance = 1 / (1 + np.exp(-(contexts @ rng.normal(size=(4, 3)) + np.array([0.5, 0.0, -0.5]))))
    logged = rng.dirichlet(np.ones(3), size=rows) * 0.85 + 0.05
    return contexts, (rng.random((rows, 3)) < chance).astype(np.float64), logged


def logs_of_world(seed: int, rows: int = 1500) -> tuple[Logs, Doubles]:
    """Logs, and all rewards."""
    contexts, reward, logged = world(seed, rows)
    return draw(MODELS, contexts.astype(np.float32), logged, reward, None, seed), reward


def always(model: int, rows: int) -> Doubles:
    return np.repeat(np.eye(3)[None, model], rows, axis=0)


def test_every_weighted_estimate_is_near_the_truth() -> None:
    logs, reward = logs_of_world(1, 6000)
    target = always(1, 6000)

    found = evaluate(logs, target)

    truth = reward[:, 1].mean()
    for one in (found.ips, found.snips, found.dr, found.clipped_dr):
        assert abs(one.value - truth) < 0.04
        assert one.low < one.value < one.high
    assert found.bernstein.low < found.betting.low < found.dr.low < truth
    assert found.bernstein.high > found.betting.high > found.dr.high > truth


def test_the_logging_policy_is_worth_what_was_logged() -> None:
    logs, _ = logs_of_world(2)
    assert logs.logged is not None

    found = evaluate(logs, logs.logged)

    assert found.ips.value == found.snips.value == pytest.approx(logs.reward.mean())
    assert found.support.effective_rows == pytest.approx(len(logs))


def test_the_doubly_robust_estimate_has_no_bias_and_less_variance_than_weights_alone() -> None:
    errors = []
    for seed in range(40):
        logs, reward = logs_of_world(seed, 400)
        found = evaluate(logs, always(2, 400), resamples=10)
        errors.append([found.dr.value - reward[:, 2].mean(), found.ips.value - reward[:, 2].mean()])
    dr, ips = np.array(errors).T

    assert abs(dr.mean()) < 4 * dr.std() / np.sqrt(len(dr))
    assert dr.std() < ips.std()


@pytest.mark.parametrize("whole", [True, False])
def test_the_bounds_hold_in_every_repeat(whole: bool) -> None:
    for seed in range(30):
        logs, reward = logs_of_world(seed, 400)
        logs = logs if whole else replace(logs, logged=None)
        found = evaluate(logs, always(seed % 3, 400), resamples=10, needs=Needs(1, 1.0))
        truth = reward[:, seed % 3].mean()
        assert found.bernstein.low <= truth <= found.bernstein.high
        assert found.betting.low <= truth <= found.betting.high


def test_a_policy_that_was_never_tried_gets_no_number() -> None:
    contexts, reward, _ = world(3)
    logged = np.tile([0.5, 0.5, 0.0], (1500, 1))
    logs = draw(MODELS, contexts.astype(np.float32), logged, reward, None, 3)

    with pytest.raises(NoSupport, match="never or hardly tried") as refused:
        evaluate(logs, always(2, 1500))

    assert refused.value.support.never_share == 1.0
    assert refused.value.support.effective_rows == 0.0
    with pytest.raises(NoSupport, match="never or hardly tried"):
        evaluate(replace(logs, logged=None), always(2, 1500))


def test_too_few_effective_decisions_give_no_number() -> None:
    logs, _ = logs_of_world(4, 300)

    with pytest.raises(NoSupport, match="301 are needed"):
        evaluate(logs, always(0, 300), needs=Needs(effective_rows=301))


def test_propensities_that_cannot_be_true_are_disbelieved() -> None:
    logs, _ = logs_of_world(5)
    wrong = replace(logs, logged=None, propensity=logs.propensity / 2)

    with pytest.raises(NoSupport, match="not the true ones"):
        evaluate(wrong, always(0, 1500))


def test_a_better_policy_is_proved_better_and_an_equal_one_is_not() -> None:
    contexts, reward, _ = world(6, 6000)
    logs = draw(MODELS, contexts.astype(np.float32), np.full((6000, 3), 1 / 3), reward, None, 6)
    best = int(reward.mean(axis=0).argmax())
    worst = int(reward.mean(axis=0).argmin())

    found = compare(logs, always(best, 6000), always(worst, 6000))
    same = compare(logs, always(best, 6000), always(best, 6000))

    truth = (reward[:, best] - reward[:, worst]).mean()
    assert found.better and 0 < found.low < truth
    assert found.difference.low < truth < found.difference.high
    assert same.difference.value == 0 and not same.better
    assert not compare(logs, always(worst, 6000), always(best, 6000)).better


def test_unjudged_decisions_are_left_out_and_told() -> None:
    logs, _ = logs_of_world(7)
    reward = np.where(np.arange(1500) % 3 == 0, np.nan, logs.reward)

    found = evaluate(replace(logs, reward=reward), always(0, 1500))

    assert found.support.rows == 1000
    assert found.support.judged_share == pytest.approx(2 / 3)


def test_rewards_of_another_range_are_the_same_question() -> None:
    logs, _ = logs_of_world(8)
    wide = replace(logs, reward=logs.reward * 30 - 20, bounds=(-20.0, 10.0))

    plain, scaled = evaluate(logs, always(1, 1500)), evaluate(wide, always(1, 1500))

    assert scaled.dr.value == pytest.approx(plain.dr.value * 30 - 20)
    assert scaled.betting.low == pytest.approx(plain.betting.low * 30 - 20)
    assert compare(wide, always(1, 1500), always(0, 1500)).low == pytest.approx(
        compare(logs, always(1, 1500), always(0, 1500)).low * 30
    )


def test_rows_of_one_group_count_as_one() -> None:
    logs, _ = logs_of_world(9, 500)
    twice = logs.rows(np.repeat(np.arange(500), 2))
    grouped = replace(twice, groups=np.repeat(np.arange(500), 2))

    once = evaluate(logs, always(0, 500))
    found = evaluate(grouped, always(0, 1000))

    assert found.ips.value == pytest.approx(once.ips.value)
    assert found.ips.high - found.ips.low == pytest.approx(once.ips.high - once.ips.low, rel=0.1)
    assert found.betting.high - found.betting.low > 0.9 * (once.betting.high - once.betting.low)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), mixed=st.floats(0, 1))
def test_the_bound_of_a_difference_is_never_above_what_was_measured(seed: int, mixed: float) -> None:
    logs, reward = logs_of_world(seed, 200)
    new, old = mixed * always(0, 200) + (1 - mixed) * always(1, 200), always(2, 200)

    lows = difference_lows(logs, features_of(logs), new, old, delta=0.001, sloped=True, seed=0)

    assert max(lows.bernstein, lows.betting) <= ((new - old) * reward).sum(axis=1).mean()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"propensity": np.zeros(1500)}, r"decision 0: propensity is not in \(0, 1\] \(1500 of 1500"),
        ({"reward": np.full(1500, 2.0)}, "reward is outside 0..1"),
        ({"chosen": np.full(1500, 7)}, "chosen is not one of the 3 models"),
        ({"logged": np.full((1500, 3), 0.2)}, "do not sum to 1"),
        ({"reward": np.zeros(3)}, r"reward has \(3,\) entries for 1500 decisions"),
    ],
)
def test_wrong_logs_are_refused_with_the_row(change: dict[str, Any], what: str) -> None:
    logs, _ = logs_of_world(10)
    with pytest.raises(ValueError, match=what):
        replace(logs, **change)


def test_probabilities_that_are_none_are_refused() -> None:
    logs, _ = logs_of_world(11)
    with pytest.raises(ValueError, match="decision 0: the policy's probabilities"):
        evaluate(logs, np.full((1500, 3), 0.5))
    assert weights_of(logs, always(0, 1500)).max() > 1


def test_the_range_of_costs_follows_from_cards_and_not_from_what_was_logged() -> None:
    bound = dearest_call(DATA)

    assert dearest_call(DATA, bound / 2) == bound / 2
    assert bound == dearest_call(replace(DATA, cost_usd=DATA.cost_usd / 10)) == dearest_call(DATA.rows(np.arange(200)))
    card = max(DATA.models, key=lambda one: one.cost_nanousd(0, one.max_output_tokens or one.context_tokens))
    longest = int(np.nanmax(DATA.input_tokens))
    assert bound == pytest.approx(
        card.cost_nanousd(longest, card.max_output_tokens or card.context_tokens) / 1e9, rel=0.01
    )


def test_bounds_of_a_cost_that_is_seldom_high_hold_though_the_logs_saw_no_high_one() -> None:
    rng = np.random.default_rng(8)
    low = lows = 0
    for seed in range(60):
        cost = np.where(rng.random((200, 3)) < 0.004, 1.0, 0.001)
        logs = draw(MODELS, np.zeros((200, 1), np.float32), np.full((200, 3), 1 / 3), cost, None, seed)
        seen = float(logs.reward.max())
        told, narrow = (
            evaluate(replace(logs, bounds=(0.0, most)), always(0, 200), resamples=2) for most in (1.0, seen)
        )
        truth = 0.004 + 0.996 * 0.001
        low, lows = low + (told.betting.high < truth), lows + (narrow.betting.high < truth)

    assert low <= 3 < lows


def test_a_call_that_cost_more_than_any_card_allows_is_named() -> None:
    cost = DATA.cost_usd.copy()
    cost[5, 2] = 1e6

    with pytest.raises(ValueError, match=rf"'{DATA.query_ids[5]}' cost .* at '{DATA.models[2].id}'"):
        dearest_call(replace(DATA, cost_usd=cost))
