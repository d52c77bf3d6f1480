"""Real models that write guesses for others: the same tokens, weights that are shared, sources that are refused."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from local_runtime.base import Sampling, UnsupportedModel
from local_runtime.decoding.draft_model import DraftModel
from local_runtime.decoding.pace import Adaptive, Fixed, Pace
from local_runtime.engine import Engine
from local_runtime.kernels.library import kernels
from local_runtime.models.draft import draft_for
from local_runtime.models.load import LoadedModel, LoadOptions, load_model
from local_runtime.models.native import NativeModel
from local_runtime.scheduler import Scheduler
from local_runtime.sequence import new_sequence
from tests.unit.local_runtime.tiny import byte_tokenizer, save_tiny, save_tokenizer, segment

needs_kernels = pytest.mark.skipif(kernels() is None, reason="no native kernels: not built, or no AVX2")
OPTIONS = LoadOptions(slots=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("main")
    save_tiny("llama wide", folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same vocabulary, for torch only."""
    folder = tmp_path_factory.mktemp("other")
    save_tiny("llama", folder)
    save_tokenizer(folder)
    return folder


def said(
    loaded: LoadedModel, draft: DraftModel | None, temperature: float, pace: Pace, most: int = 3
) -> tuple[list[list[int]], Scheduler]:
    scheduler = Scheduler(loaded.model, most, pace, draft=draft)
    parts = []
    for seed in range(5):
        prompt = np.random.default_rng(seed).integers(0, 256, 20 + 9 * seed).tolist()
        sampling = Sampling(temperature=temperature, seed=seed, max_tokens=50, frequency_penalty=0.1)
        parts.append(new_sequence(prompt, sampling, loaded.tokenizer, 120))
        scheduler.add(parts[-1])
    while not scheduler.idle:
        scheduler.step()
    return [part.history.generated for part in parts], scheduler


@needs_kernels
@pytest.mark.parametrize("temperature", [0, 0.3, 1.0])
@pytest.mark.parametrize("most", [1, 3])
@pytest.mark.parametrize("source", ["layers:0-2", "layers:0,2", "other"])
def test_a_draft_model_changes_no_token_with_any_seed_alone_or_in_a_batch(
    folder: Path, other: Path, source: str, most: int, temperature: float
) -> None:
    loaded = load_model(folder, OPTIONS)
    plain, _ = said(loaded, None, temperature, Fixed(0), most)
    draft = draft_for(loaded, str(other) if source == "other" else source, OPTIONS)

    guessed, scheduler = said(loaded, draft, temperature, Fixed(3), most)

    assert guessed == plain
    assert scheduler.guessed > 100
    assert said(loaded, draft, temperature, Adaptive(), most)[0] == plain


@needs_kernels
def test_all_layers_guess_what_all_layers_say(folder: Path) -> None:
    loaded = load_model(folder, OPTIONS)

    _, scheduler = said(loaded, draft_for(loaded, "layers:0-2", OPTIONS), 0, Fixed(3))

    assert scheduler.guessed_right > 0.8 * scheduler.guessed > 0  # penalties make it differ now and then


def test_where_company_changes_rounding_nothing_is_written(folder: Path, other: Path) -> None:
    options = LoadOptions("float32", slots=3)
    loaded, writing = load_model(folder, options), load_model(other, options)
    plain, _ = said(loaded, None, 0.5, Fixed(0))

    told, scheduler = said(loaded, DraftModel(writing.model, 258, 128), 0.5, Fixed(3))

    assert told == plain and scheduler.guessed == 0


def test_a_model_that_torch_computes_takes_no_draft_model(folder: Path, other: Path) -> None:
    options = LoadOptions("float32", slots=1)

    with pytest.raises(UnsupportedModel, match="native kernels"):
        draft_for(load_model(folder, options), str(other), options)


@needs_kernels
def test_another_vocabulary_is_refused_by_both_names(folder: Path, tmp_path: Path) -> None:
    save_tiny("llama", tmp_path / "stranger")
    save_tokenizer(tmp_path / "stranger")
    backend = byte_tokenizer()
    vocabulary = backend.get_vocab()
    first, second = list(vocabulary)[:2]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    changed = tokenizers.Tokenizer.from_str(backend.to_str())
    changed.model = tokenizers.models.BPE(vocabulary, [])
    changed.save(str(tmp_path / "stranger" / "tokenizer.json"))

    with pytest.raises(UnsupportedModel, match=f"stranger .* {folder.name}.* vocabularies differ"):
        draft_for(load_model(folder, OPTIONS), str(tmp_path / "stranger"), OPTIONS)


@needs_kernels
def test_layers_that_the_model_does_not_have_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="layers must"):
        draft_for(load_model(folder, OPTIONS), "layers:0-9", OPTIONS)


@needs_kernels
def test_a_twin_shares_weights_and_outlives_the_first(folder: Path) -> None:
    model = load_model(folder, OPTIONS).model
    assert isinstance(model, NativeModel)
    ids = list(range(40))
    want = model.forward([segment(0, 0, ids, 40)])
    twin = model.twin(model.page_count)
    weights = model._weights
    assert twin._weights is weights
    del model, weights
    gc.collect()

    assert np.array_equal(twin.forward([segment(0, 0, ids, 40)]), want)


@needs_kernels
async def test_an_engine_with_a_draft_model_says_the_same(folder: Path) -> None:
    async def told(draft: str | None) -> tuple[list[str], int]:
        engine = Engine.load(str(folder), threads=1, max_batch=2, draft=draft)
        engine.start()
        try:
            answers = await asyncio.gather(*[_text(engine, i) for i in range(3)])
            return answers, engine._draft._seen if engine._draft else 0
        finally:
            engine.close()

    plain, none = await told(None)
    guessed, read = await told("layers:0-2")

    assert guessed == plain and read == 3 and none == 0


async def _text(engine: Engine, seed: int) -> str:
    sampling = Sampling(seed=seed, max_tokens=40, temperature=0.7)
    return "".join([delta.text async for delta in engine.generate(engine.encode(f"prompt {seed}"), sampling)])
