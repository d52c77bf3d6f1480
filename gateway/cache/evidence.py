"""The lexical evidence that two texts ask for one answer: a fixed row of numbers for a pair of parsed texts.

It knows no category, no model and no answer; `verifier` weighs what stands here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise

from gateway.cache.parsed import Parsed
from gateway.cache.words import STOP

NAMES = (
    "content_overlap", "rarity_missing_a", "rarity_missing_b", "rarity_missing", "rarest_missing_a", "rarest_missing_b",
    "missing_count_a", "missing_count_b", "missing_share", "bag_overlap", "bag_missing_a", "bag_missing_b",
    "function_overlap", "bigram_overlap", "gram_overlap", "gram_containment",
    "numbers_differ", "numbers_missing_a", "numbers_missing_b", "numbers_both", "numbers_order", "measures_differ",
    "negation_parity", "negation_count", "opposed", "opposed_one", "sides_differ",
    "propers_differ", "propers_missing_a", "propers_missing_b", "propers_disjoint", "propers_both",
    "codes_differ", "codes_disjoint", "codes_both", "times_differ", "times_conflict",
    "question_same", "question_both", "persons_differ", "persons_swapped", "modals_differ",
    "links_conflict", "links_overlap", "order_inversions", "order_same", "entities_order", "same_bag",
    "length_ratio", "length_a", "length_b", "soft_matched", "substitutions", "insertion_only",
    "first_same", "last_same", "mass_a", "mass_b",
)  # fmt: skip
SIZE = len(NAMES)
_MOST_COMPARED = 8


def evidence(a: Parsed, b: Parsed) -> list[float]:
    """The row of numbers for a pair, in the order of NAMES: `a` is asked, `b` is cached."""
    left, right, soft = _unmatched(a, b)
    return [
        *_words(a, b, left, right),
        *_numbers(a, b),
        *_polarity(a, b),
        *_names(a, b),
        *_form(a, b),
        *_order(a, b),
        *_shape(a, b, left, right, soft),
    ]


def _unmatched(a: Parsed, b: Parsed) -> tuple[list[str], list[str], int]:
    """The content of either side that the other lacks, spelling variants and compounds let pass."""
    left = [word for word in a.content if word not in b.content]
    right = [word for word in b.content if word not in a.content]
    if not left or not right or len(left) > _MOST_COMPARED or len(right) > _MOST_COMPARED:
        return left, right, 0
    soft = 0
    for word in tuple(left):
        for other in right:
            if _alike(word, other):
                left.remove(word)
                right.remove(other)
                soft += 1
                break
    return left, right, soft


def _alike(word: str, other: str) -> bool:
    shorter = min(len(word), len(other))
    if shorter < 4 or word[:3] != other[:3] or word[0].isdigit():
        return False
    shared = 3
    while shared < shorter and word[shared] == other[shared]:
        shared += 1
    return shared >= 0.7 * max(len(word), len(other))


def _words(a: Parsed, b: Parsed, left: Sequence[str], right: Sequence[str]) -> tuple[float, ...]:
    lost_a = [a.content[word] for word in left]
    lost_b = [b.content[word] for word in right]
    sum_a, sum_b = sum(lost_a), sum(lost_b)
    mass = a.mass + b.mass
    bag_a, bag_b = a.bag, b.bag
    common = len(bag_a & bag_b)
    grams = len(a.grams & b.grams)
    return (
        _overlap(len(a.content) - len(left), len(left) + len(right)),
        sum_a,
        sum_b,
        (sum_a + sum_b) / mass if mass else 0.0,
        max(lost_a, default=0.0),
        max(lost_b, default=0.0),
        len(left),
        len(right),
        (len(left) + len(right)) / (len(a.content) + len(b.content) + 1),
        _overlap(common, len(bag_a) + len(bag_b) - 2 * common),
        len(bag_a) - common,
        len(bag_b) - common,
        _jaccard(bag_a & STOP, bag_b & STOP),
        _jaccard(a.bigrams, b.bigrams),
        _overlap(grams, len(a.grams) + len(b.grams) - 2 * grams),
        grams / min(len(a.grams), len(b.grams)),
    )


def _numbers(a: Parsed, b: Parsed) -> tuple[float, ...]:
    if not a.numbers and not b.numbers:
        return (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    of_a, of_b = set(a.numbers), set(b.numbers)
    inverted = sorted(a.numbers) == sorted(b.numbers) and a.numbers != b.numbers
    return (
        of_a != of_b,
        len(of_a - of_b),
        len(of_b - of_a),
        len(of_a & of_b),
        inverted,
        len(a.measures ^ b.measures),
    )


def _polarity(a: Parsed, b: Parsed) -> tuple[float, ...]:
    ours, theirs = a.sides - b.sides, b.sides - a.sides
    rows = {row for row, _ in theirs}
    opposed = sum(1 for row, side in ours if row in rows and (row, 1 - side) in theirs)
    half = sum(1 for row, side in ours | theirs if ((row, 1 - side) in a.sides) != ((row, 1 - side) in b.sides))
    return (
        (a.negations - b.negations) % 2,
        min(a.negations, b.negations),
        opposed,
        half,
        len(ours) + len(theirs),
    )


def _names(a: Parsed, b: Parsed) -> tuple[float, ...]:
    if a.propers or b.propers:
        of_a, of_b = set(a.propers), set(b.propers)
        lost_a = sum(1 for name in of_a if name not in of_b and name not in b.content and name not in b.bag)
        lost_b = sum(1 for name in of_b if name not in of_a and name not in a.content and name not in a.bag)
        both = len(of_a & of_b)
        propers = (lost_a + lost_b, lost_a, lost_b, lost_a > 0 and lost_b > 0, both)
    else:
        propers = (0, 0, 0, False, 0)
    shared = len(a.codes & b.codes)
    return (
        *propers,
        len(a.codes) + len(b.codes) - 2 * shared,
        bool(a.codes) and bool(b.codes) and not shared,
        shared,
        len(a.times ^ b.times),
        bool(a.times - b.times) and bool(b.times - a.times),
    )


def _form(a: Parsed, b: Parsed) -> tuple[float, ...]:
    swapped = a.persons != b.persons and sorted(a.persons) == sorted(b.persons)
    return (
        a.question == b.question,
        a.question >= 0 and b.question >= 0,
        a.persons != b.persons,
        swapped,
        len(a.modals ^ b.modals),
    )


def _order(a: Parsed, b: Parsed) -> tuple[float, ...]:
    ours, theirs = a.links, b.links
    conflict = 0
    if ours and theirs:
        role = dict(link.split(" ", 1)[::-1] for link in ours)
        for link in theirs - ours:
            preposition, word = link.split(" ", 1)
            conflict += role.get(word, preposition) != preposition
    places = {word: place for place, word in enumerate(b.sequence)}
    path = [places[word] for word in a.sequence if word in places]
    inversions = sum(1 for here, there in pairwise(path) if there < here)
    names = [word for word in a.propers if word in b.propers]
    others = [word for word in b.propers if word in a.propers]
    return (
        conflict,
        _jaccard(ours, theirs),
        inversions / max(1, len(path) - 1),
        inversions == 0,
        names != others,
        a.content.keys() == b.content.keys() and inversions > 0,
    )


def _shape(a: Parsed, b: Parsed, left: Sequence[str], right: Sequence[str], soft: int) -> tuple[float, ...]:
    longer = max(a.characters, b.characters)
    return (
        min(a.characters, b.characters) / longer if longer else 1.0,
        math.log1p(len(a.words)),
        math.log1p(len(b.words)),
        soft,
        min(len(left), len(right)),
        bool(left) != bool(right),
        a.words[:1] == b.words[:1],
        a.sequence[-1:] == b.sequence[-1:],
        a.mass,
        b.mass,
    )


def _overlap(common: float, apart: float) -> float:
    return common / (common + apart) if common + apart else 1.0


def _jaccard(ours: Collection[str], theirs: Collection[str]) -> float:
    if not ours and not theirs:
        return 1.0
    both = sum(1 for one in ours if one in theirs)
    return both / (len(ours) + len(theirs) - both)
