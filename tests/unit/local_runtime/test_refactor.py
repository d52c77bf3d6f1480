"""Mixtures made of dense models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from local_runtime.base import UnsupportedModel
from local_runtime.kernels.library import kernels
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.native import NativeModel
from local_runtime.models.transformer import Transformer
from local_runtime.refactor.command import perplexity, refactored
from local_runtime.refactor.fits import fitted_router, refitted
from local_runtime.refactor.neurons import shared_out
from local_runtime.refactor.refactor import Recipe, windows_of
from tests.unit.local_runtime.test_native import off, tokens, whole
from tests.unit.local_runtime.tiny import save_tiny, save_tokenizer

RECIPE = Recipe(experts=4, active=2, shared=16)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    save_tiny("llama wide, long", folder)
    save_tokenizer(folder)
    return folder


def made(dense: Path, out: Path, recipe: Recipe = RECIPE, windows: int = 40) -> Any:
    text = bytes(np.random.default_rng(0).integers(32, 127, 256 * 48, dtype=np.uint8)).decode()
    return refactored(str(dense), out, [text], lambda _: recipe, windows, lambda *_: None)


def model_in(folder: Path, dtype: str = "float32") -> Any:
    return load_model(folder, LoadOptions(dtype=dtype, slots=4, context_tokens=128)).model


@pytest.mark.parametrize("early", [True, False])
def test_with_all_experts_a_mixture_is_the_dense_model(dense: Path, tmp_path: Path, early: bool) -> None:
    made(dense, tmp_path / "out", Recipe(experts=4, active=4, shared=16, early=early, hold=1e6))

    want, got = (whole(model_in(folder), tokens(50)) for folder in (dense, tmp_path / "out"))

    assert off(got, want) < 0.02  # weights are stored in bfloat16


def test_fitting_brings_back_much_of_what_the_missing_experts_gave(dense: Path, tmp_path: Path) -> None:
    fitted = made(dense, tmp_path / "fitted", Recipe(experts=4, active=2, shared=16, hold=0.1))
    held = made(dense, tmp_path / "held", Recipe(experts=4, active=2, shared=16, hold=1e6))

    want = whole(model_in(dense), tokens(50))
    near, far = (off(whole(model_in(tmp_path / name), tokens(50)), want) for name in ("fitted", "held"))
    assert near < 0.96 * far
    assert fitted.mixture_perplexity > 0
    assert fitted.active_share == held.active_share == (16 + 2 * 12) / 64
    assert (fitted.fitted_tokens, fitted.judged_tokens) == (36 * 256, 4 * 256)


@pytest.mark.skipif(kernels() is None, reason="no native kernels: not built, or no AVX2")
@pytest.mark.parametrize("early", [True, False])
def test_the_kernels_compute_a_mixture_as_torch_does_and_offloaded_bit_for_bit(
    dense: Path, tmp_path: Path, early: bool
) -> None:
    made(dense, tmp_path / "out", Recipe(experts=4, active=2, shared=0 if early else 16, early=early))
    ids = tokens(100, seed=3)
    want = whole(model_in(tmp_path / "out"), ids)

    native = model_in(tmp_path / "out", "int8")
    got = whole(native, ids)
    options = LoadOptions(dtype="int8", slots=4, context_tokens=128, expert_bytes=30_000, expert_folder=tmp_path / "x")
    offloaded = load_model(tmp_path / "out", options).model

    assert isinstance(native, NativeModel)
    assert off(got, want, 30) < 0.1
    assert np.array_equal(whole(offloaded, ids), got)
    assert native.spec.moe is not None
    assert (native.spec.moe.early, native.spec.moe.even) == (early, True)


def test_a_mixture_speaks_as_its_dense_model_did(dense: Path, tmp_path: Path) -> None:
    made(dense, tmp_path / "out")
    before, after = (load_model(folder, LoadOptions(dtype="float32", slots=1)) for folder in (dense, tmp_path / "out"))

    talk = [{"role": "user", "content": "Guten Tag"}]

    assert before.template is not None and after.template is not None
    assert after.template.render(talk) == before.template.render(talk)
    assert after.tokenizer.end_ids == before.tokenizer.end_ids
    assert after.tokenizer.encode("über 7\n") == before.tokenizer.encode("über 7\n")


def test_neurons_that_work_together_become_an_expert() -> None:
    random = np.random.default_rng(1)
    groups = random.permutation(np.repeat(np.arange(4), 6))
    topic = random.integers(0, 4, 500)
    strength = np.where(groups == topic[:, None], 1.0, 0.05) * random.uniform(0.8, 1.2, (500, 24))
    busy = np.full((500, 3), 2.0) + random.uniform(0, 0.1, (500, 3))

    parts = shared_out(torch.tensor(np.concatenate([strength, busy], axis=1), dtype=torch.float32), 3, 4)

    assert parts.shared.tolist() == [24, 25, 26]
    assert {frozenset(groups[expert].tolist()) for expert in parts.experts} == {frozenset({i}) for i in range(4)}
    assert sorted(parts.experts.flatten().tolist()) == list(range(24))
    assert torch.equal(parts.members(27).sum(1), torch.cat([torch.ones(24), torch.zeros(3)]))


def test_a_router_learns_which_experts_contribute_most() -> None:
    random = torch.Generator().manual_seed(2)
    true = torch.randn(6, 20, generator=random)
    inputs = torch.randn(3000, 20, generator=random)
    strength = torch.exp(inputs @ true.T)

    router = fitted_router(inputs[:2000], strength[:2000], 2)

    got = (inputs[2000:] @ router.T).topk(2, dim=1).indices.sort(dim=1).values
    want = strength[2000:].topk(2, dim=1).indices.sort(dim=1).values
    assert (got == want).float().mean() > 0.9


def test_output_weights_move_as_far_as_they_are_let() -> None:
    random = torch.Generator().manual_seed(3)
    inside, true, down = (torch.randn(*shape, generator=random) for shape in ((500, 12), (8, 12), (8, 12)))

    free, half, held = (refitted(down, inside, inside @ true.T, hold) for hold in (1e-9, 1e3, 1e9))

    assert torch.allclose(free, true, atol=1e-3)
    assert torch.allclose(held, down, atol=1e-3)
    assert (down - true).norm() > (half - true).norm() > (free - true).norm()


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe(experts=4, active=5, shared=16), "active must lie between 1 and the 4 experts, not 5"),
        (Recipe(experts=5, active=2, shared=16), "shared must leave a multiple of 5 of the 64 neurons, not 16"),
        (Recipe(experts=4, active=2, shared=64), "not 64"),
    ],
)
def test_recipes_that_can_not_be_are_refused(dense: Path, tmp_path: Path, recipe: Recipe, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(dense, tmp_path / "out", recipe)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["mixtral wide", "qwen2 wide", "llama wide, 3.1, biased", "gemma", "smollm3", "phi3, window, partial"]
)
def test_models_of_other_kinds_are_refused(tmp_path: Path, name: str) -> None:
    save_tiny(name, tmp_path)
    save_tokenizer(tmp_path)

    with pytest.raises(UnsupportedModel, match="only dense models"):
        refactored(str(tmp_path), tmp_path / "out", ["x" * 9999], lambda _: RECIPE, 9, lambda *_: None)


def test_a_folder_that_is_not_empty_and_texts_that_are_too_short_are_refused(dense: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 256"):
        refactored(str(dense), tmp_path / "out", ["short"], lambda _: RECIPE, 9, lambda *_: None)
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(FileExistsError, match="not empty"):
        made(dense, tmp_path)


def test_perplexity_is_that_of_the_logits(dense: Path) -> None:
    model = model_in(dense)
    assert isinstance(model, Transformer)
    ids = windows_of(tokens(300, seed=4), 100, 2)
    nll = 0.0
    for window in ids.tolist():
        logits = torch.from_numpy(whole(model, window)).double()
        nll += float(torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(window[1:]), reduction="sum"))

    assert perplexity(model, ids) == pytest.approx(np.exp(nll / 198), rel=1e-6)


def test_a_mixture_whose_routers_read_the_layer_before_keeps_all_layers(dense: Path, tmp_path: Path) -> None:
    made(dense, tmp_path / "out", Recipe(experts=4, active=2, shared=16, early=True), windows=8)

    with pytest.raises(ValueError, match="whose routers read the layer before"):
        load_model(tmp_path / "out", LoadOptions("float32", slots=1, layers="2"))
