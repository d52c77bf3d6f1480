"""Cheap, pure facts about a prompt: tokens, language, code, and whether a policy's predicate holds.

Everything is bounded in time by looking at a prompt's beginning only; nothing here knows a model or a message.
"""

from __future__ import annotations

import re
from functools import lru_cache

from policies.schema import Predicate
from routers.decision import Query
from routers.languages import guess_language
from routers.tokens import estimate_tokens

__all__ = ["estimate_tokens", "explain", "found_phrase", "guess_language", "has_code", "matches"]

CODE_WINDOW = 4_000
CONTAINS_WINDOW = 64_000

# (a word that must stand in the text, the pattern that confirms it or None, points); two points make code.
# The plain word is looked for first because that is some ten times cheaper than a pattern.
# The patterns read the text as `_bare_lines` gives it, so "\n" is both borders of a line. They face hostile texts:
# what precedes the first sure letter is fixed, a repetition either takes all it can and gives nothing back (`++`) and
# ends before its pattern can begin anew, or it is short. That keeps the work in proportion to the text's length.
_CODE_SIGNS: tuple[tuple[str, re.Pattern[str] | None, int], ...] = (
    ("```", None, 2),
    ("#include", re.compile(r"\n#include\s*+[<\"]"), 2),
    ("def ", re.compile(r"\n(?:async\s++)?def\s++\w++\s*+\("), 2),
    ("class ", re.compile(r"\n(?:\w++[^\S\n]++){0,6}?class\s++\w[^.\n]{0,200}[:{]\n"), 2),
    ("import ", re.compile(r"\n(?:from\s++[\w.]++\s++import\s++[\w*(, ]++|import\s++[\w.*{},' ]++;?)\n"), 1),
    ("function", re.compile(r"function\b\s*+\w*+\s*+\([\w\s,.=]*+\)\s*+\{"), 2),
    ("=>", re.compile(r"=>\s*+[\w({]"), 1),
    ("fn ", re.compile(r"\n(?:pub\s++)?fn\s++\w++\s*+[(<]"), 2),
    ("func ", re.compile(r"\nfunc\s++(?:\([^)\n]*+\)\s*+)?\w++\s*+\("), 2),
    ("SELECT", re.compile(r"SELECT\b(?s:.){1,300}FROM\b(?<=\WFROM)"), 2),
    (
        "select ",
        re.compile(
            r"select(?:\s++(?!from\b)[\w*.,]++(?<!select)){1,60}+\s++from\s++\w++"
            r"(?:(?s:.){0,200};|(?s:.){0,200}where\b(?<=\Wwhere)|(?s:.){0,200}join\b(?<=\Wjoin))"
        ),
        2,
    ),
    ("</", re.compile(r"</\w++>"), 2),
    ("Traceback (", None, 2),
    ("Exception", re.compile(r"\nat\s++[\w.$<>]++\(|Exception(?<=\wException):"), 2),
    ("Error: ", None, 1),
    ("return", re.compile(r"\nreturn\b[^.;\n]*+[;\n]"), 1),
    ("print", re.compile(r"print(?:f|ln)?\s*+!?\([\"'\w]"), 1),
    ("console.", None, 2),
    ("System.out", None, 2),
    ("public ", re.compile(r"public\s++(?:static|class|void|final|int|String)\b"), 2),
    ("self.", re.compile(r"self\.\w++\s*+[=(.]"), 1),
    ("assert ", re.compile(r"\nassert\s++\w++\("), 2),
    ("#!/", None, 2),
    ("<?php", None, 2),
    (";", re.compile(r";\n"), 1),
    ("{", re.compile(r"\{\n"), 1),
    ("}", re.compile(r"\n\}[;,)]?\n"), 1),
    # A call of a name that has an underscore before its last sign: `_` and the rest of the name, or two underscores.
    ("(", re.compile(r"_(?:[^\W_]++_*+|_)\(.{0,150}\)"), 1),
    (" = ", re.compile(r"\n(?:(?:const|let|var|int|float|auto)\s++)?[\w.\[\]]++[^\S\n]=\s[\w\"'\[({]"), 1),
    ('":', re.compile(r"\n\"[\w$-]++\"\s*+:\s*+[\[{\"\dtfn]"), 2),
    ("$ ", re.compile(r"\n\$ \w"), 1),
    ("#define", re.compile(r"\n#\s*+define\s++\w"), 2),
)


def has_code(text: str) -> bool:
    """Whether program text, markup, a query or an error trace stands in the prompt's first 4,000 characters."""
    start = text[:CODE_WINDOW]
    lines: str | None = None
    points = 0
    for word, pattern, worth in _CODE_SIGNS:
        if word not in start:
            continue
        if pattern is not None:
            lines = _bare_lines(start) if lines is None else lines
            if not pattern.search(lines):
                continue
        points += worth
        if points >= 2:
            return True
    return False


def _bare_lines(text: str) -> str:
    """The lines that are not blank, without the white space around them, each between two line feeds."""
    return "\n" + "\n".join(filter(None, map(str.strip, text.split("\n")))) + "\n"


def matches(predicate: Predicate, query: Query) -> bool:
    """Whether every field that the predicate sets holds for the query; an empty predicate always does."""
    features = query.features
    if predicate.category is not None and query.category not in predicate.category:
        return False
    if predicate.language is not None and features.language not in predicate.language:
        return False
    if predicate.min_tokens is not None and features.tokens < predicate.min_tokens:
        return False
    if predicate.max_tokens is not None and features.tokens > predicate.max_tokens:
        return False
    if predicate.min_turns is not None and features.turns < predicate.min_turns:
        return False
    if predicate.code is not None and features.code is not predicate.code:
        return False
    if predicate.tools is not None and features.tools is not predicate.tools:
        return False
    if predicate.modality is not None and features.modalities.isdisjoint(predicate.modality):
        return False
    return predicate.contains is None or found_phrase(predicate.contains, query.text) is not None


def explain(predicate: Predicate, query: Query) -> str:
    """Why a predicate holds for a query, as half a sentence; meant for one that `matches`."""
    features = query.features
    reasons = []
    if predicate.category is not None:
        reasons.append(f"the category is '{query.category}'")
    if predicate.contains is not None:
        reasons.append(f"it contains '{found_phrase(predicate.contains, query.text)}'")
    if predicate.language is not None:
        reasons.append(f"the language is '{features.language}'")
    if predicate.code is not None:
        reasons.append("it contains code" if features.code else "it contains no code")
    if predicate.tools is not None:
        reasons.append("it offers tools" if features.tools else "it offers no tools")
    if predicate.modality is not None:
        reasons.append(f"it brings {', '.join(sorted(features.modalities.intersection(predicate.modality)))}")
    if predicate.min_tokens is not None or predicate.max_tokens is not None:
        reasons.append(f"it has about {features.tokens} tokens")
    if predicate.min_turns is not None:
        reasons.append(f"it has {features.turns} turns")
    return " and ".join(reasons) or "it applies to every query"


def found_phrase(phrases: tuple[str, ...], text: str) -> str | None:
    """The first of the phrases that stands in the text as whole words, whatever the case; None if none does."""
    start = text[:CONTAINS_WINDOW].lower()
    for phrase, word, pattern in _prepared(phrases):
        if word in start and pattern.search(start):
            return phrase
    return None


@lru_cache(maxsize=512)
def _prepared(phrases: tuple[str, ...]) -> tuple[tuple[str, str, re.Pattern[str]], ...]:
    """Each phrase with its longest word, which is cheap to look for first, and the pattern that confirms it."""
    lowered = [(phrase, phrase.strip().lower()) for phrase in phrases if phrase.strip()]
    return tuple((phrase, max(low.split(), key=len), re.compile(_whole_words(low))) for phrase, low in lowered)


def _whole_words(phrase: str) -> str:
    """The phrase with word borders where it begins and ends with a letter of a script that writes spaces.

    The first word stands before the check of what precedes it: a plain beginning is searched for ten times faster.
    """
    first, *others = map(re.escape, phrase.split())
    before = rf"(?<!\w{first})" if phrase[0].isalnum() and phrase[0] < "\u0e00" else ""
    after = r"(?!\w)" if phrase[-1].isalnum() and phrase[-1] < "\u0e00" else ""
    return r"\s+".join((first + before, *others)) + after
