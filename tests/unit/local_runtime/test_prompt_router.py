"""Layers that are left out for a prompt and its answer, and what routers of them learn."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from local_runtime.decoding.layers.base import Act
from local_runtime.decoding.layers.fit_routers import fit_routers, losses, pooled, single_edits
from local_runtime.decoding.layers.prompt_router import PromptRouter, Routers, most_costly
from local_runtime.models.adaptive import AdaptiveDepth
from local_runtime.models.transformer import Transformer
from tests.unit.local_runtime.tiny import load_tiny, save_tiny, segment

IDS = [int(one) for one in np.random.default_rng(0).integers(0, 256, 60)]
WINDOWS = torch.tensor(IDS).view(3, 20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    folder: Path = tmp_path_factory.mktemp("whole")
    save_tiny("llama", folder)
    return load_tiny(folder)


def flat(costs: list[float], slope: float = 0.0, hidden: int = 32) -> Routers:
    layers = len(costs)
    return Routers(torch.tensor(costs), torch.zeros(layers, hidden), torch.full((layers, hidden), slope))


def test_the_layers_that_cost_most_are_kept_and_the_first_and_the_last() -> None:
    assert most_costly(torch.tensor([0.0, 3.0, 1.0, 2.0, 0.0]), 3) == (0, 1, 4)
    assert most_costly(torch.tensor([0.0, 3.0, 1.0, 2.0, 0.0]), 4) == (0, 1, 3, 4)


def test_a_prompt_and_its_answer_are_computed_without_what_costs_least(whole: Transformer) -> None:
    model = AdaptiveDepth(whole.spec, whole.weights, whole.cache, lambda: PromptRouter(flat([0.0, 0.1, 0.0]), 0.2))
    got = [model.forward([segment(0, 0, IDS[:10], 1)]), model.forward([segment(0, 10, IDS[10:20], 1)])]
    got += [model.forward([segment(0, i, [IDS[i]], 1)]) for i in range(20, 25)]

    whole.layers = (0, 2)
    want = [whole.forward([segment(0, 0, IDS[:10], 1)]), whole.forward([segment(0, 10, IDS[10:20], 1)])]
    want += [whole.forward([segment(0, i, [IDS[i]], 1)]) for i in range(20, 25)]
    whole.layers = range(3)

    assert np.array_equal(got, want)


def test_a_prompts_first_part_decides() -> None:
    policy = PromptRouter(flat([0.0, 0.0, 0.0], slope=1.0, hidden=4), 1.0)

    first = policy.of_prompt(1, torch.ones(5, 4))
    later = policy.of_prompt(1, torch.zeros(5, 4))

    assert first and later and policy.of_token(1, torch.zeros(4)) is Act.COMPUTE
    assert not PromptRouter(flat([0.0, 0.0, 0.0], 1.0, 4), 1.0).of_prompt(1, torch.zeros(5, 4))


def test_losses_are_those_of_the_tokens_behind_the_prompt_by_the_layers_given(whole: Transformer) -> None:
    seen: list[int] = []

    found = losses(whole, WINDOWS, 8, [(0, 1, 2), (0, 2)], seen.append)

    assert list(whole.layers) == [0, 1, 2] and seen == [1, 2, 3]
    for row, layers in ((0, (0, 1, 2)), (1, (0, 2))):
        whole.layers = layers
        logits = torch.from_numpy(whole.forward([segment(0, 0, WINDOWS[2].tolist(), 20)])).double()
        whole.layers = range(3)
        told = -logits.log_softmax(dim=-1)[7:19].gather(1, WINDOWS[2, 8:].unsqueeze(1)).mean()
        assert math.isclose(float(found[2, row]), float(told), rel_tol=1e-5)


def test_single_edits_leave_one_out_or_have_it_twice() -> None:
    assert single_edits(2) == [(0, 1), (1,), (0,), (0, 0, 1), (0, 1, 1)]


def test_pooled_states_are_means_before_each_layer(whole: Transformer) -> None:
    found = pooled(whole, WINDOWS)

    assert found.shape == (3, 3, 32)
    assert torch.allclose(found[1, 0], whole.weights.embed[WINDOWS[1]].float().mean(dim=0), atol=1e-6)


def test_what_prompts_tell_is_learned_and_what_they_do_not_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn((40, 2, 6), generator=generator)
    foretold = prompts[:, 0] @ torch.arange(6.0) + 2
    noise = torch.randn(40, generator=generator)

    routers, explained = fit_routers(prompts, torch.stack([foretold, noise], dim=1))

    new = torch.randn((6,), generator=generator)
    assert explained[0] > 0.95 and explained[1] < 0.2
    assert math.isclose(routers.cost(0, new.expand(3, 6)), float(new @ torch.arange(6.0)) + 2, abs_tol=0.5)
    assert routers.cheapest(torch.stack([new, new]), 2) == (0, 1)


def test_with_more_numbers_than_prompts_noise_foretells_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    prompts, costs = torch.randn((12, 8, 100), generator=generator), torch.randn((12, 8), generator=generator)

    _, explained = fit_routers(prompts, costs)

    assert float(explained.mean()) < 0.25
