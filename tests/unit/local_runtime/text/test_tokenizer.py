"""Bytes of tokens, for byte-level and byte-fallback vocabularies, and files that are broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import decoders, models

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.metadata import Metadata
from local_runtime.text.gguf_tokenizer import tokenizer_from_gguf
from local_runtime.text.hf_tokenizer import template_from_folder, tokenizer_from_folder
from local_runtime.text.tokenizer import Tokenizer, byte_of_character
from tests.unit.local_runtime.tiny import CHATML, byte_tokenizer, save_tokenizer

BYTES = Tokenizer(byte_tokenizer(), {}, [257])
ALPHABET = sorted(byte_of_character())


@given(st.text(max_size=60))
def test_the_bytes_of_all_tokens_are_the_bytes_of_the_text(text: str) -> None:
    text = text.encode("utf-8", "replace").decode().replace("<", "")
    assert b"".join(BYTES.visible_bytes(token) for token in BYTES.encode(text)) == text.encode()


def test_the_alphabet_is_a_bijection_with_the_bytes() -> None:
    assert sorted(byte_of_character().values()) == list(range(256))


def test_control_tokens_are_spelled_but_never_shown() -> None:
    assert BYTES.encode("a<|im_end|>") == [97, 257]
    assert (BYTES.visible_bytes(257), BYTES.token_bytes(257)) == (b"", b"<|im_end|>")
    assert BYTES.token_bytes(100_000) == b""


def test_a_byte_fallback_vocabulary_spells_spaces_and_bytes() -> None:
    backend = tokenizers.Tokenizer(models.BPE({"<0xE2>": 0, "\u2581the": 1, "x": 2}, []))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    ours = Tokenizer(backend, {}, [])
    assert [ours.token_bytes(i) for i in range(3)] == [b"\xe2", b" the", b"x"]
    assert ours.drops_first_space


def test_a_tokenizer_without_bytes_is_unsupported() -> None:
    with pytest.raises(UnsupportedModel):
        Tokenizer(tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), {}, [])


def test_end_tokens_come_from_every_file_of_the_folder(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 4]}))
    tokenizer = tokenizer_from_folder(tmp_path, Metadata({"eos_token_id": 5}, "config.json"))
    assert tokenizer.end_ids == {3, 4, 5, 257}
    assert tokenizer.special == {"eos_token": "<|im_end|>"}


@pytest.mark.parametrize("form", [CHATML, [{"name": "tool", "template": "x"}, {"name": "default", "template": CHATML}]])
def test_a_template_is_found_as_a_string_or_in_a_list(form: Any, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": form}))
    assert template_from_folder(tmp_path) == CHATML
    (tmp_path / "chat_template.jinja").write_text("newer")
    assert template_from_folder(tmp_path) == "newer"


def test_broken_tokenizer_files_are_bad_weights(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json is missing"):
        tokenizer_from_folder(tmp_path, Metadata({}, "config.json"))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BadWeights, match=r"tokenizer\.json"):
        tokenizer_from_folder(tmp_path, Metadata({}, "config.json"))


def gguf_values(**changes: Any) -> Metadata:
    values = {"model": "gpt2", "pre": "gpt-2", "tokens": ["a", "b", "ab"], "merges": ["a b"], "token_type": [1, 1, 1]}
    return Metadata({f"tokenizer.ggml.{key}": value for key, value in (values | changes).items()}, "test")


@pytest.mark.parametrize(
    "changes",
    [
        {"merges": ["a b c"]},
        {"merges": ["a z"]},
        {"token_type": [1]},
        {"eos_token_id": 3},
        {"tokens": [1, 2, 3]},
    ],
)
def test_gguf_vocabularies_that_contradict_themselves_are_bad_weights(changes: dict[str, Any]) -> None:
    with pytest.raises(BadWeights):
        tokenizer_from_gguf(gguf_values(**changes))


@pytest.mark.parametrize("changes", [{"model": "llama"}, {"pre": "unheard-of"}])
def test_gguf_tokenizers_of_other_kinds_are_unsupported(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModel):
        tokenizer_from_gguf(gguf_values(**changes))


@pytest.mark.parametrize(
    ("pre", "text", "parts"),
    [
        ("gpt-2", "it's 2024!", ["it", "'s", " 2024", "!"]),
        ("smollm", "a  42", ["a", "  ", "4", "2"]),
        ("llama-bpe", "I'M 12345\n\n x", ["I", "'M", " ", "123", "45", "\n\n", " x"]),
        ("qwen2", "1234 cafe\u0301", ["1", "2", "3", "4", " caf\u00e9"]),
    ],
)
def test_each_family_cuts_text_its_own_way(pre: str, text: str, parts: list[str]) -> None:
    tokens = [*ALPHABET, *{c for part in parts for c in part} - set(ALPHABET)]
    backend = tokenizer_from_gguf(gguf_values(pre=pre, tokens=tokens, merges=[], token_type=[]))._backend
    normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
    spans = [span for _, span in backend.pre_tokenizer.pre_tokenize_str(normal)]
    assert [normal[a:b] for a, b in spans] == parts
