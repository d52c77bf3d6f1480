"""Which questions are the same one: a prompt without its options, case, spacing and punctuation.

Knows no dataset; numbers are hashes, so that the same question has the same number in every data set.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

_NUMBER_BYTES: Final = 8
_NUMBER_BITS: Final = 63
_NO_WORDS = re.compile(r"[\W_]+")
# The beginnings of a first and of a second option: "A. yes", "(a) yes", "A) yes", "A: yes".
_OPTIONS: Final = tuple(
    (re.compile(rf"\n[^\S\n]*\(?{first}[.):](?=[^\n]*\S)"), re.compile(rf"\n[^\S\n]*\(?{second}[.):]"))
    for first, second in ("AB", "ab")
)


def stem(text: str) -> str:
    """The question itself, normalised; the whole text, where it has no letters or digits, without its outer space."""
    plain = unicodedata.normalize("NFKC", text)
    words = _NO_WORDS.sub(" ", plain[: _options_start(plain)].casefold()).strip()
    return words or _NO_WORDS.sub(" ", plain.casefold()).strip() or text.strip()


def question_number(text: str) -> int:
    """A number in 0..2^63 that all texts of one stem share."""
    return number_of(stem(text).encode("utf-8", "surrogatepass"))


def number_of(key: bytes) -> int:
    """A number in 0..2^63 that follows from a key's content alone."""
    digest = hashlib.blake2b(key, digest_size=_NUMBER_BYTES).digest()
    return int.from_bytes(digest, "big") >> (8 * _NUMBER_BYTES - _NUMBER_BITS)


def _options_start(text: str) -> int:
    """Where the options of a multiple-choice question begin: at the first A that a B follows on a later line."""
    starts = [len(text)]
    for first, second in _OPTIONS:
        begin = first.search(text)
        if begin and second.search(text, begin.end()):
            starts.append(begin.start())
    return min(starts)
