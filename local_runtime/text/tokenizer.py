"""Text to ids and ids to exact bytes, over the Hugging Face `tokenizers` library. Knows no file format and no model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import tokenizers

from local_runtime.base import UnsupportedModel


@cache
def byte_of_character() -> Mapping[str, int]:
    """GPT-2's alphabet: every byte has a printable character; unprintable bytes take the next ones from U+0100 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


class Tokenizer:
    """Encodes text and gives every token's bytes.

    `special` maps roles (bos_token, eos_token, ...) to token strings, as chat templates name them; `end_ids` are the
    tokens that end an answer.
    """

    def __init__(self, backend: tokenizers.Tokenizer, special: Mapping[str, str], end_ids: Iterable[int]) -> None:
        self.special = dict(special)
        self.end_ids = frozenset(end_ids)
        self._backend = backend
        self._added = backend.get_added_tokens_decoder()
        steps = set(_steps(backend.decoder))
        if not steps & {"ByteLevel", "ByteFallback"}:
            raise UnsupportedModel("only byte-level and byte-fallback tokenizers are supported")
        self._byte_level = "ByteLevel" in steps
        self.drops_first_space = "Strip" in steps
        self._bytes: dict[int, bytes] = {}
        self._plain: tokenizers.Tokenizer | None = None

    def to_json(self) -> str:
        """The whole tokenizer as Hugging Face's tokenizer.json."""
        return self._backend.to_str()

    def vocabulary(self) -> dict[str, int]:
        """The id of every token, control tokens too."""
        return self._backend.get_vocab(with_added_tokens=True)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Token ids; special tokens written out in the text are recognised, as Hugging Face does.

        As a batch of one: the library then frees the interpreter lock and counts no offsets, twice as fast.
        """
        return self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of a text in which a control token written out is just its letters."""
        if self._plain is None:
            plain = tokenizers.Tokenizer.from_str(self._backend.to_str())
            plain.encode_special_tokens = True
            self._plain = plain
        return self._plain.encode_batch_fast([text], add_special_tokens=False)[0].ids

    @property
    def control_texts(self) -> list[str]:
        """How control tokens are written."""
        return [str(added.content) for added in self._added.values() if added.special]

    def is_control(self, token: int) -> bool:
        """Whether the token steers the model and is never part of an answer's text."""
        added = self._added.get(token)
        return added is not None and bool(added.special)

    def visible_bytes(self, token: int) -> bytes:
        """What the token adds to the answer's text; nothing for control tokens."""
        return b"" if self.is_control(token) else self.token_bytes(token)

    def token_bytes(self, token: int) -> bytes:
        """The exact bytes of a token, control tokens written out; nothing for ids beyond the vocabulary."""
        known = self._bytes.get(token)
        if known is None:
            known = self._bytes[token] = self._spell(token)
        return known

    def _spell(self, token: int) -> bytes:
        if token in self._added:
            return str(self._added[token].content).encode()
        text = self._backend.id_to_token(token)
        if text is None:
            return b""
        if self._byte_level:
            alphabet = byte_of_character()
            return bytes(alphabet[c] for c in text) if all(c in alphabet for c in text) else text.encode()
        if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            return bytes.fromhex(text[3:5])
        return text.replace("\u2581", " ").encode()


def _steps(decoder: Any) -> list[str]:
    """Class names of a decoder and of the members of a sequence, from its own serialised state."""
    state = json.loads(decoder.__getstate__()) if decoder is not None else {}
    return [str(step.get("type")) for step in [state, *state.get("decoders", [])]]
