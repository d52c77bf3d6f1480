"""About how many tokens a text has for today's tokenizers; cheap, pure, and ignorant of models."""

from __future__ import annotations

import string

ESTIMATED_WHOLE = 1_000_000  # characters; a longer text is estimated from slices that hold as many together

_SLICES = 16

_UPPER = string.ascii_uppercase.encode()
_LETTERS = string.ascii_letters.encode()
_DIGITS = string.digits.encode()
_SIGNS = string.punctuation.encode()

# Tokens per character of each class, fitted by non-negative least squares of the relative error to a weighted mean of
# the counts of o200k (one half), cl100k (three tenths) and the tokenizer that Anthropic has published, on 1,270
# passages of 800 to 1,500 characters: English prose, questions and Markdown, Python, C, JavaScript, JSON, tools'
# arguments, tables of numbers, codes, LaTeX and 21 other languages. Estimate over count, o200k and cl100k: English
# 0.97, Python, C and JavaScript 0.99 to 1.02, German 1.02 and 0.86, Chinese 1.22 and 0.97 (they differ by so much).
_PER_LETTER = 0.11
_PER_UPPER = 0.075
_PER_DIGIT = 0.65
_PER_SIGN = 0.55
_PER_SPACE = 0.61
_PER_SPACE_PAIR = 0.068
_PER_LINE = 1.62
_FEWEST_PER_LETTER = 1 / 6
# Letters beyond so many between two borders are no words but codes, such as base64.
_LONGEST_WORD = 16
_PER_UNBROKEN = 0.7

# By the first byte of a character in UTF-8, commonest first: Latin letters with marks, punctuation and symbols, Han,
# kana, Cyrillic, Hangul, Hebrew and Arabic, Greek, scripts of India and South-East Asia, emoji and whatever is left.
_ASCII_AND_REST = bytes(range(0xC2))
_SCRIPTS = (
    (bytes(range(0xC3, 0xCC)), 1.65),
    (b"\xc2\xe2", 0.43),
    (bytes(range(0xE4, 0xEA)), 0.9),
    (b"\xe3", 0.76),
    (bytes(range(0xD0, 0xD5)), 0.325),
    (bytes(range(0xEA, 0xEE)), 0.77),
    (bytes(range(0xD6, 0xDC)), 0.52),
    (bytes(range(0xCC, 0xD0)), 0.66),
    (b"\xe0\xe1", 0.68),
    (bytes(range(0xC2, 0x100)), 2.5),
)


def estimate_tokens(text: str) -> int:
    """A whole number of tokens; 0 only for the empty text."""
    if len(text) <= ESTIMATED_WHOLE:
        return max(round(weigh_tokens(text)), 1) if text else 0
    size = ESTIMATED_WHOLE // _SLICES
    starts = [(len(text) - size) * place // (_SLICES - 1) for place in range(_SLICES)]
    sample = "".join(text[start : start + size] for start in starts)
    return round(weigh_tokens(sample) * len(text) / len(sample))


def weigh_tokens(text: str) -> float:
    """The estimate before rounding, which pieces of a text can be summed up from; 0 for the empty text."""
    raw = text.encode("utf-8", "surrogatepass")
    size = len(raw)
    letters = size - len(raw.translate(None, _LETTERS))
    digits = size - len(raw.translate(None, _DIGITS))
    signs = size - len(raw.translate(None, _SIGNS))
    spaces, pairs, lines = raw.count(b" "), raw.count(b"  "), raw.count(b"\n")
    tokens = (
        letters * _PER_LETTER
        + (size - len(raw.translate(None, _UPPER))) * _PER_UPPER
        + digits * _PER_DIGIT
        + signs * _PER_SIGN
        + (spaces - 2 * pairs) * _PER_SPACE
        + pairs * _PER_SPACE_PAIR
        + lines * _PER_LINE
    )
    unbroken = letters - _LONGEST_WORD * (spaces + signs + lines + 1)
    if unbroken > 0:
        tokens += unbroken * _PER_UNBROKEN
    if letters + digits + signs + spaces + lines < size:
        tokens += _weigh_wide(raw)
    return max(tokens, letters * _FEWEST_PER_LETTER)


def _weigh_wide(raw: bytes) -> float:
    """Tokens of the characters beyond ASCII."""
    firsts = raw.translate(None, _ASCII_AND_REST)
    tokens = 0.0
    for bytes_of_script, per_character in _SCRIPTS:
        if not firsts:
            break
        rest = firsts.translate(None, bytes_of_script)
        tokens += (len(firsts) - len(rest)) * per_character
        firsts = rest
    return tokens
