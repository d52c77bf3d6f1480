"""Whole models on the native kernels: beside Hugging Face's, and bit for bit beside themselves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.base import BadWeights, GenerationError, Sampling
from local_runtime.decoding.pace import Fixed, Pace
from local_runtime.kernels.abi import GROUP, Q4, Q8
from local_runtime.kernels.library import kernels
from local_runtime.kernels.packing import rounded
from local_runtime.models import load
from local_runtime.models.base import LanguageModel, Logits, Segment
from local_runtime.models.hf_config import SPARSE_FAMILIES, spec_from_config
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.names import HUGGING_FACE
from local_runtime.models.native import NativeModel
from local_runtime.models.native_weights import load_native
from local_runtime.models.numbers import FloatNumbers
from local_runtime.models.safetensors_source import SafetensorsSource
from local_runtime.models.transformer import Transformer
from local_runtime.scheduler import Scheduler
from local_runtime.sequence import new_sequence
from local_runtime.text.gguf_tokenizer import tokenizer_from_gguf
from local_runtime.text.hf_tokenizer import read_json
from local_runtime.text.tokenizer import Tokenizer
from tests.unit.local_runtime.tiny import WIDE, byte_tokenizer, save_tiny, save_tokenizer, segment
from tests.unit.local_runtime.tiny_gguf import write_gguf

needs_kernels = pytest.mark.skipif(kernels() is None, reason="no native kernels: not built, or no AVX2")
TOKENS = 320


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, 256, count)]


def representable(model: Any) -> Any:
    """The model with matrices that 8 bits in groups of 32 can say exactly."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                groups = rounded(parameter.reshape(-1, parameter.shape[-1]).numpy(), Q8)
                steps = np.repeat(groups.d.astype(np.float32), GROUP, axis=1)
                said = (groups.q.astype(np.float32) - 128) * steps
                parameter.copy_(torch.from_numpy(said[:, : parameter.shape[-1]]).reshape(parameter.shape))
    return model


def native(folder: Path, *, form: int = Q8, level: int = 3, fine: bool = True, pages: int = 80) -> NativeModel:
    use = kernels(level)
    assert use is not None
    spec = spec_from_config(read_json(folder / "config.json"))
    with SafetensorsSource(folder) as source:
        weights = load_native(use, spec, HUGGING_FACE, FloatNumbers(source), form)
    return NativeModel(use, spec, weights, pages, fine=fine)


@pytest.fixture(scope="module", params=list(WIDE))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("wide")
    reference = representable(save_tiny(request.param, folder))
    reference.save_pretrained(folder)
    return reference, folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 640 positions with biases of all kinds."""
    folder = tmp_path_factory.mktemp("biased")
    save_tiny("llama wide, 3.1, biased", folder)
    return folder


def off(got: Logits, want: Logits, forgiven: int = 0) -> float:
    """The error's size beside the logits' own, without the worst rows: where a router is torn between two experts, the
    rounding of activations decides."""
    error = np.sort(np.mean((got - want) ** 2, axis=1))
    return float(np.sqrt(np.mean(error[: len(error) - forgiven]) / np.mean(want**2)))


def whole(model: LanguageModel, ids: list[int], slot: int = 0) -> Logits:
    return model.forward([segment(slot, 0, ids, len(ids))])


@needs_kernels
def test_logits_are_hugging_faces_but_for_the_rounding_of_activations_keys_and_values(pair: tuple[Any, Path]) -> None:
    reference, folder = pair
    ids = tokens(100)
    with torch.inference_mode():
        want = reference(torch.tensor([ids])).logits[0].numpy()

    sparse = reference.config.model_type in SPARSE_FAMILIES
    fine, coarse = (off(whole(native(folder, fine=bits), ids), want, 5 * sparse) for bits in (True, False))

    assert fine < 0.004 and fine < coarse / 20
    assert coarse < (0.2 if sparse else 0.1)


@needs_kernels
def test_steps_and_chunks_and_company_change_no_bit(pair: tuple[Any, Path]) -> None:
    _, folder = pair
    model = native(folder)
    ids, others = tokens(90, seed=1), tokens(70, seed=2)
    want, want_others = whole(model, ids), whole(model, others, slot=1)

    steps = [model.forward([segment(2, at, ids[at : at + 1], 1)]) for at in range(len(ids))]
    model.forward([segment(3, 0, others[:37], 0), segment(0, 0, ids[:5], 0)])
    mixed = model.forward([segment(0, 5, ids[5:], len(ids) - 5), segment(3, 37, others[37:], 33)])

    assert np.array_equal(np.concatenate(steps), want)
    assert np.array_equal(mixed, np.concatenate([want[5:], want_others[37:]]))


@needs_kernels
@pytest.mark.parametrize("fine", [True, False], ids=["16 bits", "8 bits"])
@pytest.mark.parametrize("form", [Q4, Q8], ids=["4 bits", "8 bits"])
def test_threads_and_instruction_sets_change_no_bit(folder: Path, form: int, fine: bool) -> None:
    ids = tokens(300, seed=3)
    want = whole(native(folder, form=form, fine=fine), ids)

    for level in (2, 3):
        model = native(folder, form=form, level=level, fine=fine)
        for threads in (2, 3, 1):
            model.use_threads(threads)
            assert np.array_equal(whole(model, ids), want)


@needs_kernels
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_way_of_cutting_a_prompt_gives_the_same_bits(folder: Path, data: st.DataObject) -> None:
    model = native(folder)
    ids = tokens(300, seed=4)
    want = whole(model, ids)
    cuts = sorted({0, len(ids), *data.draw(st.lists(st.integers(1, len(ids) - 1), max_size=6))})

    parts = [model.forward([segment(1, a, ids[a:b], b - a)]) for a, b in pairwise(cuts)]

    assert np.array_equal(np.concatenate(parts), want)


@needs_kernels
@pytest.mark.parametrize("temperature", [0, 0.3, 1.5])
def test_guessed_tokens_are_those_that_come_one_by_one_with_every_seed(folder: Path, temperature: float) -> None:
    tokenizer = Tokenizer(byte_tokenizer(), {}, [257])

    def said(pace: Pace) -> tuple[list[list[int]], int]:
        scheduler = Scheduler(native(folder), 3, pace)
        parts = []
        for seed in range(5):
            prompt = tokens(6, seed) * 5
            sampling = Sampling(temperature=temperature, seed=seed, max_tokens=60, frequency_penalty=0.1)
            parts.append(new_sequence(prompt, sampling, tokenizer, TOKENS))
            scheduler.add(parts[-1])
        while not scheduler.idle:
            scheduler.step()
        return [part.history.generated for part in parts], scheduler.guessed

    plain, none = said(Fixed(0))
    guessed, some = said(Fixed(5))

    assert guessed == plain and some > none == 0


@needs_kernels
def test_more_rows_than_a_pass_takes_are_computed_in_several(folder: Path) -> None:
    model = native(folder)
    ids = [tokens(200, seed=seed) for seed in range(3)]

    together = model.forward([segment(slot, 0, one, 150) for slot, one in enumerate(ids)])

    alone = native(folder)
    want = [alone.forward([segment(0, 0, one[:120], 0), segment(0, 120, one[120:], 80)]) for one in ids]
    rows = together.reshape(3, 150, -1)
    assert all(np.array_equal(row[-80:], one) for row, one in zip(rows, want, strict=True))


@needs_kernels
def test_what_a_slot_held_before_does_not_matter(folder: Path) -> None:
    model = native(folder, pages=20)
    ids = tokens(50, seed=5)
    want = whole(model, ids)
    model.forward([segment(0, 0, tokens(300, seed=6), 0)])

    assert np.array_equal(whole(model, ids), want)


@needs_kernels
@pytest.mark.parametrize(
    ("part", "words"),
    [
        (segment(0, 320, [1], 1), "do not fit"),
        (segment(0, -1, [1], 1), "do not fit"),
        (segment(0, 300, [1] * 30, 1), "do not fit"),
        (segment(0, 0, [258], 1), "beyond"),
        (segment(0, 0, [-1], 1), "beyond"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_model_goes_on(folder: Path, part: Segment, words: str) -> None:
    model = native(folder)
    want = whole(model, tokens(20))
    with pytest.raises(ValueError, match=words):
        model.forward([part])
    assert np.array_equal(whole(model, tokens(20)), want)


@needs_kernels
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16", "F32"])
def test_a_gguf_file_is_computed_as_torch_computes_it(kind: str, tmp_path: Path) -> None:
    reference = save_tiny("llama wide", tmp_path)
    write_gguf(reference, tmp_path / "wide.gguf", quantisation=kind)
    ids = tokens(60)
    path = tmp_path / "wide.gguf"

    ours = load_model(path, LoadOptions(slots=1)).model
    theirs = load_model(path, LoadOptions("float32", slots=1)).model

    assert isinstance(ours, NativeModel) and isinstance(theirs, Transformer)
    got, want = (model.forward([segment(0, 0, ids, len(ids))]) for model in (ours, theirs))
    exact = kind.startswith("Q")
    assert off(got, want) < (0.004 if exact else 0.1)


@needs_kernels
@pytest.mark.parametrize("name", ["gemma wide", "gemma2 wide", "gemma3_text wide", "phi3 wide", "phi3 wide, partial"])
def test_a_gguf_file_of_another_family_is_computed_as_torch_computes_it(name: str, tmp_path: Path) -> None:
    write_gguf(save_tiny(name, tmp_path), tmp_path / "wide.gguf", quantisation="Q8_0")
    ids = tokens(60)

    ours = load_model(tmp_path / "wide.gguf", LoadOptions(slots=1)).model
    theirs = load_model(tmp_path / "wide.gguf", LoadOptions("float32", slots=1)).model

    assert isinstance(ours, NativeModel) and isinstance(theirs, Transformer)
    got, want = (model.forward([segment(0, 0, ids, len(ids))]) for model in (ours, theirs))
    assert off(got, want) < 0.004


@needs_kernels
def test_a_norm_over_all_heads_at_once_is_left_to_torch(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    save_tiny("olmoe wide", tmp_path)

    assert isinstance(load_model(tmp_path, LoadOptions(slots=1)).model, Transformer)
    with pytest.raises(ValueError, match="over all heads at once"):
        load_model(tmp_path, LoadOptions("int8", slots=1))


@needs_kernels
def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gguf(save_tiny("llama wide", tmp_path), tmp_path / "wide.gguf", quantisation="Q8_0")
    path = tmp_path / "wide.gguf"

    def cut_and_read(metadata: Any) -> Any:
        path.write_bytes(path.read_bytes()[:-5_000])
        return tokenizer_from_gguf(metadata)

    monkeypatch.setattr(load, "tokenizer_from_gguf", cut_and_read)
    with pytest.raises(BadWeights, match="truncated while it was read"):
        load_model(path, LoadOptions(slots=1))


@needs_kernels
def test_more_keys_and_values_than_memory_is_an_error_that_says_what_to_lower(folder: Path) -> None:
    with pytest.raises(GenerationError, match="max_batch"):
        native(folder, pages=2**31 - 1)


def test_without_kernels_auto_computes_in_torch_and_a_named_form_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tokenizer(folder)
    monkeypatch.setattr(load, "kernels", lambda: None)
    monkeypatch.setattr(load, "why_not", lambda: "they were not built")

    assert isinstance(load_model(folder, LoadOptions(slots=1)).model, Transformer)
    with pytest.raises(ValueError, match="int4 needs the native kernels: they were not built"):
        load_model(folder, LoadOptions("int4", slots=1))


@needs_kernels
def test_models_that_the_kernels_can_not_compute_run_in_torch(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    save_tiny("mixtral", tmp_path)

    assert isinstance(load_model(tmp_path, LoadOptions(slots=1)).model, Transformer)
    with pytest.raises(ValueError, match="heads of 8"):
        load_model(tmp_path, LoadOptions("int8", slots=1))


def test_activation_bits_are_8_or_16(folder: Path) -> None:
    with pytest.raises(ValueError, match="activation_bits must be 8 or 16, not 4"):
        load_model(folder, LoadOptions(activation_bits=4))


@pytest.mark.parametrize("dtype", ["float32", pytest.param("auto", marks=needs_kernels)])
def test_layers_that_are_left_out_are_as_if_they_were_not_there(dtype: str, tmp_path: Path) -> None:
    whole = save_tiny("llama wide", tmp_path / "whole")
    shallow = save_tiny("llama wide", tmp_path / "shallow")
    kept = (0, 2)
    shallow.model.layers = torch.nn.ModuleList([whole.model.layers[i] for i in kept])
    shallow.config.num_hidden_layers = len(kept)
    shallow.save_pretrained(tmp_path / "shallow")
    for folder in ("whole", "shallow"):
        save_tokenizer(tmp_path / folder)
    ids = tokens(60)

    skipping = load_model(tmp_path / "whole", LoadOptions(dtype, slots=1, layers="0,2")).model
    without = load_model(tmp_path / "shallow", LoadOptions(dtype, slots=1)).model

    got, want = (model.forward([segment(0, 0, ids, len(ids))]) for model in (skipping, without))
    assert list(skipping.layers) == [0, 2]
    assert np.array_equal(got, want)


def test_layers_and_a_policy_of_keys_and_values_are_not_had_together(folder: Path) -> None:
    with pytest.raises(ValueError, match="layers and kv_policy"):
        load_model(folder, LoadOptions(layers="2", kv_policy="window:32"))


def test_layers_that_a_model_does_not_have_are_refused(tmp_path: Path) -> None:
    save_tiny("llama wide", tmp_path)
    save_tokenizer(tmp_path)

    with pytest.raises(ValueError, match="layers must"):
        load_model(tmp_path, LoadOptions(layers="0-99"))
