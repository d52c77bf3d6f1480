"""Layers decided on prompt by prompt and token by token: what is computed, what is remembered, what is fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from local_runtime.base import Sampling
from local_runtime.decoding.layers.base import Act, LayerPolicy
from local_runtime.decoding.layers.fit_exits import Recipe, fit, reading_of, states, threshold
from local_runtime.decoding.layers.least_change import LeastChange
from local_runtime.decoding.layers.speculative_exit import CANDIDATES, Exit, SpeculativeExit, features
from local_runtime.models.adaptive import AdaptiveDepth
from local_runtime.models.base import LanguageModel
from local_runtime.models.packed import plain
from local_runtime.models.transformer import Transformer
from local_runtime.scheduler import Scheduler
from local_runtime.sequence import new_sequence
from local_runtime.text.tokenizer import Tokenizer
from tests.unit.local_runtime.tiny import byte_tokenizer, load_tiny, save_tiny, segment

IDS = [int(one) for one in np.random.default_rng(0).integers(0, 256, 60)]
LAYERS = 3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    folder: Path = tmp_path_factory.mktemp("whole")
    save_tiny("llama", folder)
    return load_tiny(folder)


def adaptive(model: Transformer, policy: Callable[[], LayerPolicy]) -> AdaptiveDepth:
    return AdaptiveDepth(model.spec, model.weights, model.cache, policy)


def steps(model: LanguageModel, slot: int = 0, prompt: int = 20) -> np.ndarray:
    rows = [model.forward([segment(slot, 0, IDS[:prompt], 1)])]
    return np.concatenate(rows + [model.forward([segment(slot, i, [IDS[i]], 1)]) for i in range(prompt, len(IDS))])


class Without(LayerPolicy):
    """Never computes a layer, for prompts or tokens."""

    def __init__(self, gone: int) -> None:
        self._gone = gone

    def of_prompt(self, layer: int, hidden: torch.Tensor) -> bool:
        return layer != self._gone

    def of_token(self, layer: int, hidden: torch.Tensor) -> Act:
        return Act.SKIP if layer == self._gone else Act.COMPUTE


class Leaving(LayerPolicy):
    """Every second token leaves before the last layer."""

    def __init__(self) -> None:
        self._tokens = 0

    def of_token(self, layer: int, hidden: torch.Tensor) -> Act:
        self._tokens += layer == 0
        return Act.LEAVE if layer == LAYERS - 1 and self._tokens % 2 else Act.COMPUTE


def test_a_policy_that_computes_everything_changes_nothing(whole: Transformer) -> None:
    model = adaptive(whole, LayerPolicy)

    assert np.array_equal(steps(model), steps(whole))
    assert model.computed == LAYERS * model.tokens == LAYERS * 40


def test_a_layer_that_is_never_computed_is_as_if_it_were_not_there(whole: Transformer) -> None:
    model = adaptive(whole, lambda: Without(1))
    got = steps(model)
    whole.layers = (0, 2)
    want = steps(whole)
    whole.layers = range(LAYERS)

    assert np.array_equal(got, want) and model.computed == 2 * model.tokens


def test_tokens_behind_one_that_left_before_the_last_layer_find_its_own_keys_and_values(whole: Transformer) -> None:
    model = adaptive(whole, Leaving)

    got, want = steps(model), steps(whole)

    assert model.computed == LAYERS * 40 - 20
    assert np.array_equal(got[::2], want[::2])
    assert not np.isclose(got[1::2], want[1::2]).all(axis=1).any()


def test_sequences_have_policies_of_their_own_and_are_computed_as_alone(whole: Transformer) -> None:
    model = adaptive(whole, Leaving)
    alone = steps(model)
    model.forward([segment(0, 0, IDS[:20], 1), segment(1, 0, IDS[:5], 1)])

    both = [model.forward([segment(1, i - 15, [IDS[i - 15]], 1), segment(0, i, [IDS[i]], 1)])[1] for i in range(20, 60)]

    assert np.array_equal(np.stack(both), alone[1:])


def test_a_scheduler_serves_a_model_of_adaptive_depth(whole: Transformer) -> None:
    tokenizer = Tokenizer(byte_tokenizer(), {}, [])

    def said(model: LanguageModel) -> list[list[int]]:
        scheduler = Scheduler(model, 2)
        parts = [
            new_sequence(IDS[: 10 + 7 * i], Sampling(seed=i, max_tokens=20), tokenizer, 128, str(i)) for i in range(3)
        ]
        for part in parts:
            scheduler.add(part)
        while not scheduler.idle:
            scheduler.step()
        return [part.history.generated for part in parts]

    leaving = adaptive(whole, Leaving)

    assert said(adaptive(whole, LayerPolicy)) == said(whole)
    assert [len(one) for one in said(leaving)] == [20] * 3 and leaving.computed < LAYERS * leaving.tokens


def test_layers_that_changed_little_are_left_out_until_all_are_looked_at_again() -> None:
    policy = LeastChange(5, share=0.5, again=4)
    before = torch.ones(1, 4)
    for layer, change in enumerate((9.0, 0.1, 1.0, 0.6, 0.01)):
        policy.changed(layer, before, before * (1 + change))

    acts = [[policy.of_token(layer, before[0]) for layer in range(5)] for _ in range(4)]

    skipping = [Act.COMPUTE, Act.SKIP, Act.COMPUTE, Act.COMPUTE, Act.COMPUTE]
    assert acts == [skipping] * 3 + [[Act.COMPUTE] * 5]


def test_changes_are_followed() -> None:
    policy = LeastChange(4, share=0.5)
    before = torch.ones(1, 4)
    for change in ((1.0, 0.1), (0.1, 1.0), (0.1, 1.0)):
        for layer, one in enumerate(change):
            policy.changed(1 + layer, before, before * (1 + one))

    acts = [policy.of_token(layer, before[0]) for layer in range(4)]

    assert acts == [Act.COMPUTE, Act.SKIP, Act.COMPUTE, Act.COMPUTE]


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=25, max_size=80), st.floats(0.5, 1))
def test_from_a_threshold_on_the_wanted_share_is_right(pairs: list[tuple[float, bool]], share: float) -> None:
    sure = torch.tensor([one for one, _ in pairs]) + torch.arange(len(pairs)) * 1e-5
    right = torch.tensor([two for _, two in pairs])

    least = threshold(sure, right, share)

    assert least == 2 or (
        float(right[sure >= least].float().mean()) >= share - 1e-6 and int((sure >= least).sum()) > 20
    )


def test_features_are_logits_local_probabilities_and_their_change() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    before = torch.full((1, CANDIDATES), 0.25)

    told, local = features(logits, before)

    assert torch.allclose(local, logits.softmax(dim=1))
    assert torch.allclose(told, torch.cat([logits / 10, local, local - 0.25], dim=1))


def test_fitted_exits_leave_where_they_are_sure_and_cost_what_they_say(whole: Transformer) -> None:
    ids = torch.tensor(IDS * 4).view(8, 30)
    recipe = Recipe((1, 2), frequent=256, inner=8, steps=50)
    fitted = fit(whole, ids, recipe)
    reading = reading_of(whole)

    def left(exits: dict[int, Exit]) -> tuple[int, np.ndarray, float]:
        model = adaptive(whole, lambda: SpeculativeExit(reading, fitted.drafter, exits))
        logits = steps(model)
        return LAYERS * model.tokens - model.computed, logits, model.policies[0].spent

    none, same, little = left({at: Exit(one.solution, one.inner, one.outer, 2.0) for at, one in fitted.exits.items()})
    some, _, _ = left({at: Exit(one.solution, one.inner, one.outer, -1.0) for at, one in fitted.exits.items()})

    assert none == 0 and np.array_equal(same, steps(whole))
    assert some > 0 and little > 0
    assert 0 <= fitted.hits <= 1 and set(fitted.exits) == {1, 2}


def test_states_are_those_before_each_layer(whole: Transformer) -> None:
    ids = torch.tensor([IDS[:30]])
    found = states(whole, ids, (0, 2))

    logits = reading_of(whole).logits(found[LAYERS], plain(whole.weights.head))
    want = whole.forward([segment(0, 0, IDS[:30], 30)])

    assert torch.equal(found[0], whole.weights.embed[ids[0]].float())
    assert np.allclose(logits.numpy(), want, atol=1e-4) and set(found) == {0, 2, LAYERS}


def test_too_few_windows_are_refused(whole: Transformer) -> None:
    with pytest.raises(ValueError, match="3 windows are too few"):
        fit(whole, torch.tensor(IDS[:30]).view(3, 10), Recipe((1,)))


def test_one_token_that_changes_beyond_measure_decides_nothing() -> None:
    policy = LeastChange(4, share=0.5)
    before = torch.ones(3, 4)
    for layer, change in enumerate(([1.0, 1.0, 1.0], [500.0, 0.2, 0.2], [1.0, 1.0, 1.0])):
        policy.changed(layer, before, before * (1 + torch.tensor(change).unsqueeze(1)))

    assert [policy.of_token(layer, before[0]) for layer in (0, 1, 2)] == [Act.COMPUTE, Act.SKIP, Act.COMPUTE]
