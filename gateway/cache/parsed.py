"""What a text says beyond its vector, read once and kept with a cache entry: words, numbers, roles, literals, polarity.

It knows one text at a time; what two of them have in common is `evidence`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

from gateway.cache.words import (
    MODALS,
    NEGATIONS,
    NUMBER_WORDS,
    OPPOSITES,
    PERSONS,
    PREPOSITIONS,
    QUESTION_TYPES,
    STOP,
    SYNONYMS,
    TIMES,
    UNITS,
)

BUCKETS = 4096
MAX_CHARACTERS = 2000
_TOKEN = re.compile(r"[^\W_]+(?:[.,'+#/*_@:-]+[^\W_]+)*[+#]*|[%$€£*~]")
_QUOTED = re.compile(r"\"([^\"]{1,80})\"|`([^`']{1,80})[`']|(?<!\w)'([^']{1,80})'(?!\w)|“([^”]{1,80})”")
# Each alternative is tried where words begin only: from within one it finds nothing more, and takes far longer.
_CODE = re.compile(
    r"(?<![\w.*~$-])[\w.*~$-]*[/\\*~_$=<>][^\s\"'`,;?!]*|(?<!\w)--?[A-Za-z][\w-]*"
    r"|(?<!\w)\w++\.\w{1,4}(?=\W|$)|(?<!\w)\w++(?:\+\+|#)"
)
_DIGITS = re.compile(r"\d[\d,]*(?:\.\d+)?")
_TYPE_OF = {name: place for place, name in enumerate(QUESTION_TYPES)}


@dataclass(frozen=True, slots=True)
class Parsed:
    """One text, as evidence needs it. `content` maps stems to their rarity; sequences keep the order of the text."""

    words: tuple[str, ...]
    bag: frozenset[str]
    content: dict[str, float]
    sequence: tuple[str, ...]
    mass: float
    bigrams: frozenset[str]
    grams: frozenset[str]
    numbers: tuple[str, ...]
    measures: frozenset[str]
    negations: int
    sides: frozenset[tuple[int, int]]
    propers: tuple[str, ...]
    codes: frozenset[str]
    times: frozenset[str]
    question: int
    persons: str
    links: frozenset[str]
    modals: frozenset[str]
    characters: int


def bucket(word: str) -> int:
    """The hashed place of a word's rarity, in 0..BUCKETS-1."""
    return crc32(word.encode("utf-8", "surrogatepass")) % BUCKETS


def stem(word: str) -> str:
    """A word without its commonest English endings, and one word for a small ring of synonyms."""
    short = _cut(word)
    return _RINGS.get(short, short)


def _cut(word: str) -> str:
    if not word.isalpha() or len(word) < 4:
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lse":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


_RINGS = {_cut(word): _cut(first) for word, first in reversed(SYNONYMS.items())}


def parse(text: str, rarity: Sequence[float]) -> Parsed:
    """Read a text; `rarity` gives each hash bucket's weight (length BUCKETS). Only its first 2,000 characters count."""
    text = text[:MAX_CHARACTERS].replace("\u2019", "'")
    raw = _TOKEN.findall(text)
    words = tuple(token.lower() for token in raw)
    numbers = [_number(word) for word in words]
    plain = [_uncontracted(word) for word in words]
    stems = [number or stem(word) for number, word in zip(numbers, plain, strict=True)]
    sequence = tuple(one for one, word in zip(stems, plain, strict=True) if word and word not in STOP)
    content = {one: rarity[bucket(one)] for one in sequence}
    flat = " ".join(words)[:400]
    return Parsed(
        words=words,
        bag=frozenset(words),
        content=content,
        sequence=sequence,
        mass=sum(content.values()),
        bigrams=frozenset(map(" ".join, pairwise(sequence))),
        grams=frozenset(flat[place : place + 4] for place in range(max(1, len(flat) - 3))),
        numbers=tuple(number for number in numbers if number is not None),
        measures=_measures(numbers, stems),
        negations=sum(1 for word in words if word in NEGATIONS or word.endswith("n't")),
        sides=frozenset(side for word in words for side in OPPOSITES.get(word, ())),
        propers=_propers(text, raw),
        codes=_codes(text),
        times=frozenset(word for word in words if word in TIMES) | frozenset(s for s in stems if s in TIMES),
        question=_question(words),
        persons=_persons(words),
        links=_links(words, stems),
        modals=frozenset(word for word in words if word in MODALS),
        characters=len(text),
    )


def _uncontracted(word: str) -> str:
    """What stands before an apostrophe, and nothing of "don't": negations are counted apart."""
    before, apostrophe, after = word.partition("'")
    if not apostrophe:
        return word
    return "" if after == "t" else before


def _number(word: str) -> str | None:
    spelt = NUMBER_WORDS.get(word)
    if spelt is not None:
        return spelt
    if not any(character.isdigit() for character in word):
        return None
    found = _DIGITS.search(word)
    if found is None:
        return None
    plain = found.group().replace(",", "").rstrip(".")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    rest = word.replace(found.group(), "", 1)
    if rest in ("", "st", "nd", "rd", "th", "s"):
        return plain.lstrip("0") or "0"
    return plain + rest


def _measures(numbers: Sequence[str | None], stems: Sequence[str]) -> frozenset[str]:
    found = []
    for place, number in enumerate(numbers):
        if number is not None and place + 1 < len(stems) and stems[place + 1] in UNITS:
            found.append(f"{number} {stems[place + 1]}")
    return frozenset(found)


def _propers(text: str, raw: Sequence[str]) -> tuple[str, ...]:
    """Words with a capital that no sentence's start explains, in order."""
    if text.isupper():
        return ()
    found, starts = [], True
    place = 0
    for token in raw:
        at = text.find(token, place)
        starts = starts or any(mark in text[place:at] for mark in ".?!:")
        place = at + len(token)
        lower = token.lower()
        if token[0].isupper() and (not starts or token[1:].isupper()) and lower not in STOP and lower not in PERSONS:
            found.append(_cut(lower))
        starts = False
    return tuple(found)


def _codes(text: str) -> frozenset[str]:
    quoted = ("".join(groups).strip().lower() for groups in _QUOTED.findall(text))
    other = (found.strip(".,'\"()").lower() for found in _CODE.findall(text))
    return frozenset(one for one in (*quoted, *other) if one)


def _question(words: Sequence[str]) -> int:
    """The place in QUESTION_TYPES of the first words that ask, -1 where none does."""
    for place, word in enumerate(words[:12]):
        if word in _TYPE_OF:
            pair = f"{word} {words[place + 1]}" if place + 1 < len(words) else ""
            return _TYPE_OF.get(pair, _TYPE_OF[word])
    return -1


def _persons(words: Sequence[str]) -> str:
    """First and second persons in their order, without repeats: "12" for "do I call you"."""
    told = ""
    for word in words:
        person = PERSONS.get(word, "")
        if person and not told.endswith(person):
            told += person
    return told


def _links(words: Sequence[str], stems: Sequence[str]) -> frozenset[str]:
    """Each preposition with the content word that it governs: "from boston"."""
    found = []
    waiting = ""
    for word, short in zip(words, stems, strict=True):
        if word in PREPOSITIONS:
            waiting = word
        elif waiting and word not in STOP:
            found.append(f"{waiting} {short}")
            waiting = ""
    return frozenset(found)
