"""Mixtures whose experts come and go, beside the same ones all in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.base import BadWeights, GenerationError, Sampling
from local_runtime.experts.errors import BudgetTooSmall, ExpertLost
from local_runtime.experts.store import INDEX, path_of
from local_runtime.experts.trace import Recorder
from local_runtime.kernels.library import kernels
from local_runtime.models.base import LanguageModel, Logits
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.native import NativeModel
from local_runtime.scheduler import Scheduler
from local_runtime.sequence import new_sequence
from local_runtime.text.tokenizer import Tokenizer
from tests.unit.local_runtime.test_native import off, representable, tokens, whole
from tests.unit.local_runtime.tiny import byte_tokenizer, save_tiny, save_tokenizer, segment

pytestmark = pytest.mark.skipif(kernels() is None, reason="no native kernels: not built, or no AVX2")
SPARSE = ["mixtral wide", "qwen3_moe wide", "qwen2_moe wide"]


@pytest.fixture(scope="module", params=SPARSE)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sparse")
    save_tiny(request.param, folder)
    save_tokenizer(folder)
    return folder


def loaded(
    folder: Path, dtype: str = "int8", experts: int | None = None, expert_dtype: str | None = None
) -> NativeModel:
    """With room for so many experts, None: for all."""
    size = 2 * 8192 if expert_dtype == "bfloat16" else 12288
    options = LoadOptions(
        dtype=dtype,
        slots=4,
        expert_bytes=None if experts is None else experts * size,
        expert_folder=folder / f"experts-{expert_dtype or dtype}",
        expert_dtype=expert_dtype,
        record_routes=experts is not None,
    )
    model = load_model(folder, options).model
    assert isinstance(model, NativeModel)
    return model


def in_steps(model: NativeModel, ids: list[int], slot: int) -> Logits:
    return np.concatenate([model.forward([segment(slot, at, ids[at : at + 1], 1)]) for at in range(len(ids))])


@pytest.mark.parametrize("dtype", ["int8", "int4"])
@pytest.mark.parametrize("experts", [3, 5, 100])
def test_offloaded_is_resident_bit_for_bit(folder: Path, dtype: str, experts: int) -> None:
    ids = tokens(60, seed=7)
    want = whole(loaded(folder, dtype), ids)
    model = loaded(folder, dtype, experts)

    assert np.array_equal(whole(model, ids), want)
    assert np.array_equal(in_steps(model, ids, slot=1), want)
    assert model.experts is not None
    stats = model.experts.pool.stats
    assert stats.misses > 0 and model.experts.pool.resident_bytes <= experts * 12288


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_company_and_threads_change_no_bit(folder: Path, data: st.DataObject) -> None:
    ids, others = tokens(40, seed=8), tokens(30, seed=9)
    want = whole(loaded(folder), ids)
    model = loaded(folder, experts=data.draw(st.integers(3, 12)))
    model.use_threads(data.draw(st.integers(1, 3)))
    cut = data.draw(st.integers(1, 39))

    first = model.forward([segment(0, 0, ids[:cut], cut), segment(1, 0, others, 0)])
    second = model.forward([segment(1, len(others), others, 0), segment(0, cut, ids[cut:], 40 - cut)])

    assert np.array_equal(np.concatenate([first, second]), want)


def test_experts_of_bfloat16_are_what_the_file_says(tmp_path: Path) -> None:
    reference = representable(save_tiny("mixtral wide", tmp_path))
    reference.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    ids = tokens(80, seed=10)
    exact = whole(loaded(tmp_path), ids)

    got = whole(loaded(tmp_path, experts=4, expert_dtype="bfloat16"), ids)

    # Numbers of 8 bits times a scale are rounded to bfloat16: three digits.
    assert 0 < off(got, exact, 5) < 0.03


def test_a_lost_expert_fails_the_step_and_a_restored_one_serves_again(tmp_path: Path) -> None:
    save_tiny("mixtral wide", tmp_path)
    save_tokenizer(tmp_path)
    model, ids = loaded(tmp_path, experts=3), tokens(50, seed=11)
    want = whole(model, ids)
    files = {expert: path_of(tmp_path / "experts-int8", (1, expert)) for expert in range(5)}
    kept = {expert: file.read_bytes() for expert, file in files.items()}
    for file in files.values():
        file.unlink()

    with pytest.raises(ExpertLost, match="layer-001"):
        whole(model, tokens(200, seed=12))
    for expert, file in files.items():
        file.write_bytes(kept[expert])

    assert np.array_equal(whole(model, ids), want)


def test_a_store_is_written_once_and_anew_when_the_weights_are_others(tmp_path: Path) -> None:
    save_tiny("mixtral wide", tmp_path)
    save_tokenizer(tmp_path)
    loaded(tmp_path, experts=4)
    index = tmp_path / "experts-int8" / INDEX
    first, stamp = index.read_text(), index.stat().st_ino
    loaded(tmp_path, experts=4)
    assert index.stat().st_ino == stamp

    save_tiny("mixtral wide raw", tmp_path)
    model = loaded(tmp_path, experts=4)

    assert index.read_text() != first
    assert np.array_equal(whole(model, tokens(9)), whole(loaded(tmp_path), tokens(9)))


def test_what_can_not_be_offloaded_is_refused(tmp_path: Path) -> None:
    save_tiny("mixtral wide", tmp_path)
    save_tokenizer(tmp_path)

    with pytest.raises(BudgetTooSmall, match="a token wants 2"):
        load_model(tmp_path, LoadOptions(expert_bytes=100, expert_folder=tmp_path / "x"))
    with pytest.raises(ValueError, match="needs expert_folder"):
        load_model(tmp_path, LoadOptions(expert_bytes=10**9))
    with pytest.raises(ValueError, match="dtype float32 is for torch"):
        load_model(tmp_path, LoadOptions(dtype="float32", expert_bytes=10**9, expert_folder=tmp_path / "x"))
    with pytest.raises(ValueError, match="expert_dtype must be bfloat16, int8, int4; not 'int2'"):
        load_model(tmp_path, LoadOptions(expert_dtype="int2"))


def test_what_fits_is_loaded(folder: Path, tmp_path: Path) -> None:
    options = LoadOptions(dtype="int8", slots=4, expert_bytes=1 << 30, expert_folder=tmp_path / "x")

    model = load_model(folder, options).model

    assert isinstance(model, NativeModel) and model.experts is None
    assert not (tmp_path / "x").exists()
    assert np.array_equal(whole(model, tokens(20)), whole(loaded(folder, experts=5), tokens(20)))


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    save_tiny("mixtral wide", tmp_path)
    save_tokenizer(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")

    with pytest.raises(BadWeights, match="something else"):
        load_model(tmp_path, LoadOptions(expert_bytes=50_000, expert_folder=tmp_path / "mine"))

    assert (tmp_path / "mine" / "letter").read_text() == "dear"


def test_a_dense_model_takes_no_notice(tmp_path: Path) -> None:
    save_tiny("llama wide", tmp_path)
    save_tokenizer(tmp_path)

    model = load_model(tmp_path, LoadOptions(expert_bytes=1, expert_folder=tmp_path / "x")).model

    assert isinstance(model, NativeModel) and model.experts is None


@pytest.mark.parametrize("top_p", [0.2, 0.45])
def test_a_token_takes_no_more_experts_than_are_likely_enough(folder: Path, top_p: float) -> None:
    ids = tokens(40, seed=13)

    def opened(dtype: str, **more: Any) -> LanguageModel:
        return load_model(folder, LoadOptions(dtype=dtype, slots=4, expert_top_p=top_p, **more)).model

    store = folder / "experts-top-p"
    sparing = opened("int8", expert_bytes=3 * 12288, expert_folder=store, record_routes=True)
    assert isinstance(sparing, NativeModel) and sparing.experts is not None
    sparing.experts.recorder = recorder = Recorder(sorted(sparing.experts.tables))

    got = whole(sparing, ids)

    taken = (recorder.routes() >= 0).sum(axis=2)
    assert taken.min() == 1 and taken.mean() < 2
    assert np.array_equal(got, whole(opened("int8"), ids))
    exact = whole(opened("float32"), ids)
    assert off(got, exact, 5) < 0.1 < off(whole(loaded(folder), ids), exact, 5)


@pytest.mark.parametrize("top_p", [0, -0.1, 1.01])
def test_a_share_of_experts_out_of_range_is_refused(folder: Path, top_p: float) -> None:
    with pytest.raises(ValueError, match="expert_top_p must lie above 0"):
        load_model(folder, LoadOptions(expert_top_p=top_p))


def said(model: NativeModel, prompts: list[list[int]]) -> list[list[int] | GenerationError]:
    """What a scheduler says after each of the prompts, all at once: tokens, or the error that ended it."""
    scheduler = Scheduler(model, most=len(prompts))
    tokenizer = Tokenizer(byte_tokenizer(), {}, [])
    parts = [new_sequence(prompt, Sampling(temperature=0, max_tokens=4), tokenizer, 300) for prompt in prompts]
    for part in parts:
        scheduler.add(part)
    ended: dict[int, GenerationError] = {}
    while not scheduler.idle:
        for result in scheduler.step():
            if isinstance(result.outcome, GenerationError):
                ended[id(result.sequence)] = result.outcome
    return [ended.get(id(part), part.history.generated) for part in parts]


def routes_of(folder: Path, prompt: list[int]) -> tuple[list[int] | GenerationError, set[tuple[int, int]]]:
    """What is said after a prompt, and which experts that takes."""
    model = loaded(folder, experts=3)
    assert model.experts is not None
    model.experts.recorder = recorder = Recorder([0, 1, 2])
    found = said(model, [prompt])[0]
    routes = recorder.routes()
    return found, {(layer, int(expert)) for layer in range(3) for expert in np.unique(routes[:, layer])}


def test_a_lost_expert_ends_only_what_needs_it(tmp_path: Path) -> None:
    save_tiny("mixtral wide", tmp_path)
    save_tokenizer(tmp_path)
    prompts = [[7 * i + 1] for i in range(12)]
    alone = [routes_of(tmp_path, prompt) for prompt in prompts]
    lost = next(key for key in sorted(alone[0][1]) if any(key not in taken for _, taken in alone))
    model = loaded(tmp_path, experts=3)
    path_of(tmp_path / "experts-int8", lost).unlink()

    together = said(model, prompts)

    for found, (want, taken) in zip(together, alone, strict=True):
        if lost in taken:
            assert isinstance(found, ExpertLost) and f"layer-{lost[0]:03d}" in str(found)
        else:
            assert found == want
    assert {lost in taken for _, taken in alone} == {True, False}
