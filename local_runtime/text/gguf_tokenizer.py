"""A tokenizer from GGUF metadata: byte-level BPE with the pre-tokenizers of the supported families."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from local_runtime.base import BadWeights, UnsupportedModel
from local_runtime.models.metadata import Metadata
from local_runtime.text.tokenizer import Tokenizer

CONTROL, USER_DEFINED = 3, 4
END_TOKENS = frozenset({"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "</s>"})
ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How a family cuts text before merging: GPT-2's rule (`split` empty) or a regex of its own."""

    split: str = ""
    single_digits: bool = False
    compose: bool = False
    whole_words_first: bool = False


PRE_TOKENIZERS = {
    "gpt-2": PreTokenizer(),
    "smollm": PreTokenizer(single_digits=True),
    "llama-bpe": PreTokenizer(split=rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}", whole_words_first=True),
    "qwen2": PreTokenizer(split=rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}", compose=True),
}


def tokenizer_from_gguf(metadata: Metadata) -> Tokenizer:
    """The tokenizer that the file describes; ids equal those of the family's own tokenizer.json."""
    kind, pre = metadata.string("tokenizer.ggml.model", ""), metadata.string("tokenizer.ggml.pre", "gpt-2")
    if kind != "gpt2":
        raise UnsupportedModel(f"GGUF tokenizer {kind!r} is not supported, only byte-level BPE ('gpt2')")
    if pre not in PRE_TOKENIZERS:
        raise UnsupportedModel(f"GGUF pre-tokenizer {pre!r} is not supported; supported: {', '.join(PRE_TOKENIZERS)}")
    tokens = metadata.strings("tokenizer.ggml.tokens")
    backend = _backend(tokens, metadata.strings("tokenizer.ggml.merges"), PRE_TOKENIZERS[pre])
    _add_tokens(backend, tokens, metadata.integers("tokenizer.ggml.token_type"))
    special = {role: tokens[i] for name, role in ROLES.items() if (i := _id(metadata, name, len(tokens))) is not None}
    return Tokenizer(backend, special, _end_ids(metadata, tokens))


def _backend(tokens: list[str], merges: list[str], pre: PreTokenizer) -> Backend:
    pairs = [tuple(merge.split(" ")) for merge in merges]
    if any(len(pair) != 2 for pair in pairs):
        raise BadWeights("GGUF: a BPE merge is not a pair of tokens")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    try:
        backend = Backend(models.BPE(vocabulary, pairs, ignore_merges=pre.whole_words_first))  # type: ignore[arg-type]
    except Exception as error:
        raise BadWeights(f"GGUF: the BPE merges do not fit the vocabulary: {error}") from error
    steps: list[pre_tokenizers.PreTokenizer] = []
    if pre.single_digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if pre.split:
        steps.append(pre_tokenizers.Split(Regex(pre.split), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pre.split))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.ByteLevel()
    if pre.compose:
        backend.normalizer = normalizers.NFC()
    return backend


def _add_tokens(backend: Backend, tokens: list[str], types: list[int]) -> None:
    if types and len(types) != len(tokens):
        raise BadWeights(f"GGUF: {len(types)} token types for {len(tokens)} tokens")
    added = [
        AddedToken(token, special=kind == CONTROL, normalized=False)
        for token, kind in zip(tokens, types, strict=bool(types))
        if kind in (CONTROL, USER_DEFINED)
    ]
    backend.add_tokens(added)


def _id(metadata: Metadata, name: str, count: int) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    if not metadata.has(key):
        return None
    if (token := metadata.integer(key)) >= count:
        raise BadWeights(f"GGUF: {key} = {token} lies beyond the vocabulary of {count}")
    return token


def _end_ids(metadata: Metadata, tokens: list[str]) -> set[int]:
    named = (_id(metadata, name, len(tokens)) for name in ("eos", "eot", "eom"))
    types = metadata.integers("tokenizer.ggml.token_type")
    by_text = {i for i, kind in enumerate(types) if kind == CONTROL and tokens[i] in END_TOKENS}
    return by_text | {token for token in named if token is not None}
