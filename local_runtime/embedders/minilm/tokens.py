"""Text to token ids as all-MiniLM-L6-v2 was trained to see them, and the grouping of texts into padded batches.
Must know no inference library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

IntArray = npt.NDArray[np.int64]

_CHARACTERS_PER_TOKEN = 40  # ample: prose has four to five
_LONGEST_WORD = 100  # WordPiece makes a longer word one [UNK], so a cut word changes at most this many tokens
_FARTHEST = 16_384  # characters; none beyond is read for the window, however few tokens stand before
_COUNTED_WHOLE = 65_536  # characters; a longer text's count is projected from slices that hold as many together
_SLICES = 8
_MAX_ROWS = 32
_MAX_TOKENS = 1024  # above some 150 tokens a larger batch is no faster per token, it only needs more memory
_MAX_PADDING = 16  # tokens; about what one more forward pass costs


class MiniLMTokens:
    """The tokenizer with the model's window."""

    def __init__(self, tokenizer_json: Path, window: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_json))
        # The file asks for 128 tokens, padded; the window and the padding are ours.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._window = window

    def count(self, text: str) -> int:
        """Tokens of the whole text, [CLS] and [SEP] included.

        Exact up to 65,536 characters; a longer text is counted in eight evenly spread slices and projected by length.
        """
        if len(text) <= _COUNTED_WHOLE:
            return len(self._encode([text])[0])
        size = _COUNTED_WHOLE // _SLICES
        starts = [(len(text) - size) * place // (_SLICES - 1) for place in range(_SLICES)]
        slices = self._encode([text[start : start + size] for start in starts])
        return 2 + round(sum(len(ids) - 2 for ids in slices) * len(text) / _COUNTED_WHOLE)

    def ids(self, text: str) -> list[int]:
        """Token ids cut to the window, the last always [SEP], at bounded cost.

        As if all were tokenised and cut, but for texts whose first 16,384 characters do not fill the window (hardly
        any spaces, or little else): of those only these characters are read, as if the text ended there.
        """
        head = text[: self._window * _CHARACTERS_PER_TOKEN]
        ids = self._encode([head])[0]
        if len(head) < min(len(text), _FARTHEST) and len(ids) < self._window + _LONGEST_WORD:
            ids = self._encode([text[:_FARTHEST]])[0]
        return ids if len(ids) <= self._window else [*ids[: self._window - 1], ids[-1]]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        # The batch call lets other threads run meanwhile; `encode` holds the interpreter until it is done.
        return [found.ids for found in self._tokenizer.encode_batch_fast([well_formed(text) for text in texts])]


def well_formed(text: str) -> str:
    """The text with each lone surrogate (JSON can carry them, UTF-8 cannot) replaced by a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def length_groups(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of `lengths` in groups to run together: longest first, few rows, few tokens, hardly any padding."""
    group: list[int] = []
    padding = 0
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if group:
            longest = lengths[group[0]]
            padding += longest - lengths[place]
            if len(group) == _MAX_ROWS or padding > _MAX_PADDING or (len(group) + 1) * longest > _MAX_TOKENS:
                yield group
                group, padding = [], 0
        group.append(place)
    if group:
        yield group


def padded(rows: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    """Ids and attention mask, both [rows, longest row]; [PAD] is 0."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return ids, mask
