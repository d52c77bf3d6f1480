"""Greedy and random decoding as a sequence uses them."""

from __future__ import annotations

import numpy as np

from local_runtime.base import Sampling
from local_runtime.decoding.base import History
from local_runtime.decoding.greedy import Greedy
from local_runtime.decoding.sampling import RandomDraw, strategy_for

ROW = np.random.default_rng(0).normal(size=50).astype(np.float32)


def draws(sampling: Sampling, count: int = 20) -> list[int]:
    strategy = strategy_for(sampling)
    return [strategy.choose(ROW, History([])) for _ in range(count)]


def test_temperature_zero_is_greedy_and_anything_else_is_not() -> None:
    assert isinstance(strategy_for(Sampling(temperature=0)), Greedy)
    assert isinstance(strategy_for(Sampling(temperature=0.1)), RandomDraw)
    assert draws(Sampling(temperature=0)) == [int(ROW.argmax())] * 20


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    assert draws(Sampling(seed=5)) == draws(Sampling(seed=5))
    assert draws(Sampling(seed=5)) != draws(Sampling(seed=6))
    assert draws(Sampling(seed=-1)) == draws(Sampling(seed=2**64 - 1))


def test_without_a_seed_two_sequences_differ() -> None:
    assert draws(Sampling(), 40) != draws(Sampling(), 40)


def test_top_k_of_one_is_the_best_whatever_the_temperature() -> None:
    assert set(draws(Sampling(temperature=5.0, top_k=1))) == {int(ROW.argmax())}


def test_a_frequency_penalty_turns_greedy_away_from_repeating() -> None:
    strategy, history = Greedy(Sampling(temperature=0, frequency_penalty=2.0)), History([])
    for _ in range(6):
        history.generated.append(strategy.choose(ROW, history))
    assert len(set(history.generated)) > 1


def test_a_bias_of_minus_hundred_bans_and_of_plus_hundred_forces() -> None:
    best = int(ROW.argmax())
    assert best not in draws(Sampling(logit_bias={best: -100}))
    assert set(draws(Sampling(logit_bias={7: 100}))) == {7}


def test_choosing_leaves_the_row_unchanged() -> None:
    before = ROW.copy()
    sampling = Sampling(seed=1, top_p=0.5, repetition_penalty=1.5, presence_penalty=1, logit_bias={0: 3})
    strategy_for(sampling).choose(ROW, History([1, 2], [3]))
    assert np.array_equal(before, ROW)
