"""GGUF files: exact dequantisation, models equal to Hugging Face's, and typed errors for anything broken."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.base import BadWeights, GenerationError, UnsupportedModel
from local_runtime.kernels.abi import Q8
from local_runtime.kernels.packing import Groups
from local_runtime.models.gguf_file import GgufFile
from local_runtime.models.gguf_source import GgufSource
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.numbers import GgufNumbers
from tests.unit.local_runtime.tiny import save_tiny, segment
from tests.unit.local_runtime.tiny_gguf import write_gguf

ARCHITECTURES = [
    "llama",
    "qwen2",
    "qwen3",
    "mixtral",
    "gemma",
    "gemma2 wide",
    "gemma3_text wide",
    "phi3",
    "phi3 wide, partial",
    "olmoe",
    "qwen2_moe",
]
FLOAT32 = LoadOptions(dtype="float32", slots=1)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gguf")
    path = folder / "tiny.gguf"
    write_gguf(save_tiny("llama", folder), path)
    return path


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_gguf_model_equals_the_hugging_face_model_that_it_was_made_from(name: str, tmp_path: Path) -> None:
    reference = save_tiny(name, tmp_path)
    write_gguf(reference, tmp_path / "tiny.gguf")
    ids = list(range(1, 30))
    got = load_model(tmp_path / "tiny.gguf", FLOAT32).model.forward([segment(0, 0, ids, len(ids))])
    with torch.inference_mode():
        want = reference(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(got - want).max() < 1e-4


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_dequantised_values_equal_the_format_library_s(name: str, tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType[name]
    values = np.random.default_rng(7).normal(size=(6, 64)).astype(np.float32)
    writer = gguf.GGUFWriter(str(tmp_path / "one.gguf"), "llama")
    writer.add_tensor("one", quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufSource(tmp_path / "one.gguf") as source:
        got = source.read("one", torch.float32).numpy()
    assert got.shape == (6, 64)
    assert np.array_equal(got, dequantize(quantize(values, kind), kind))


def test_q6_k_is_read_by_both_paths(tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType.Q6_K
    raw = np.random.default_rng(3).integers(0, 256, (4, 2 * 210), dtype=np.uint8)
    raw.reshape(-1, 210)[:, 208:] = np.full((8, 1), 0.01, np.float16).view(np.uint8)
    writer = gguf.GGUFWriter(str(tmp_path / "one.gguf"), "llama")
    writer.add_tensor("one", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufSource(tmp_path / "one.gguf") as source, GgufFile(tmp_path / "one.gguf") as file:
        got, weights = source.read("one", torch.float32).numpy(), GgufNumbers(file).weights("one", Q8)
    want = dequantize(raw, kind)
    assert isinstance(weights, Groups)
    said = (weights.q.astype(np.float32).reshape(4, -1, 32) - 128) * weights.d.astype(np.float32)[..., None]
    assert np.array_equal(got, want)
    assert np.sqrt(np.mean((said.reshape(want.shape) - want) ** 2) / np.mean(want**2)) < 0.01


def test_name_template_and_end_token_come_from_the_file(small_file: Path) -> None:
    loaded = load_model(small_file, FLOAT32)
    assert (loaded.name, loaded.context_tokens, loaded.tokenizer.end_ids) == ("tiny", 128, frozenset({257}))
    assert loaded.template is not None
    assert loaded.template.render([{"role": "user", "content": "hi"}]).startswith("<|im_start|>user\nhi")


def test_merges_and_control_tokens_are_honoured(small_file: Path) -> None:
    tokenizer = load_model(small_file, FLOAT32).tokenizer
    assert tokenizer.encode("hey<|im_end|>") == [0, ord("y"), 257]
    assert tokenizer.visible_bytes(0) == b"he"
    assert tokenizer.visible_bytes(257) == b""


@settings(max_examples=60, deadline=None)
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_bad_weights_wherever_it_ends(small_file: Path, fraction: float) -> None:
    whole = small_file.read_bytes()
    cut = small_file.with_name("cut.gguf")
    cut.write_bytes(whole[: int(len(whole) * fraction)])
    with pytest.raises(BadWeights):
        load_model(cut, FLOAT32)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_header_never_escapes_as_a_foreign_error(small_file: Path, data: st.DataObject) -> None:
    damaged = bytearray(small_file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 8000))
        damaged[at : at + 8] = data.draw(st.sampled_from([b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 2**62), b"\x7f"]))
    path = small_file.with_name("damaged.gguf")
    path.write_bytes(damaged)
    with contextlib.suppress(GenerationError):
        load_model(path, FLOAT32)


def header(tensors: int, values: int, body: bytes = b"") -> bytes:
    return struct.pack("<IIQQ", 0x46554747, 3, tensors, values) + body


HOSTILE = {
    "an empty file": b"",
    "another format": b"PK\x03\x04" + bytes(60),
    "more entries than bytes": header(2**60, 2**60),
    "a string longer than the file": header(0, 1, struct.pack("<Q", 2**63)),
    "an array of 2^61 numbers": header(0, 1, struct.pack("<Q1sIIQ", 1, b"a", 9, 10, 2**61)),
    "an array of arrays": header(0, 1, struct.pack("<Q1sIIQ", 1, b"a", 9, 9, 1) + bytes(16)),
    "an unknown value type": header(0, 1, struct.pack("<Q1sI", 1, b"a", 77) + bytes(16)),
    "a key that is not UTF-8": header(0, 1, struct.pack("<Q1sIB", 1, b"\xff", 0, 1)),
    "a tensor of 2^64 elements": header(1, 0, struct.pack("<Q1sIQQIQ", 1, b"t", 2, 2**32, 2**32, 0, 0)),
    "a tensor far behind the end": header(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 4, 0, 2**63)),
    "a tensor of nothing": header(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 0, 0, 0)),
    "a tensor of fifty dimensions": header(1, 0, struct.pack("<Q1sI", 1, b"t", 50) + bytes(500)),
    "half a block": header(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 33, 3, 0) + bytes(64)),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_header_is_bad_weights(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with pytest.raises(BadWeights):
        GgufFile(path)


def test_an_unknown_version_or_quantisation_is_unsupported_not_bad(tmp_path: Path) -> None:
    path = tmp_path / "new.gguf"
    path.write_bytes(struct.pack("<IIQQ", 0x46554747, 9, 0, 0))
    with pytest.raises(UnsupportedModel, match="version 9"):
        GgufFile(path)
    path.write_bytes(header(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 32, 999, 0) + bytes(64)))
    with pytest.raises(UnsupportedModel, match="type 999"):
        GgufFile(path)
