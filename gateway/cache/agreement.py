"""Whether two answers to one question say the same, as far as that can be told without understanding them.

It says "different" only where they contradict each other in what the question asks for: yes and no, a number, a short
fact, a call of a tool. Whatever has many right answers is undecided, unless one is nearly the other.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from gateway.cache.parsed import BUCKETS, Parsed, parse
from gateway.ledger.cache_evidence import Verdict

# Answers of so many words at most are taken for the bare fact.
SHORT_WORDS: Final = 14
# From here on embeddings of longer answers speak for the same one, where nothing contradicts.
ALIKE: Final = 0.9
_OVERLAP: Final = 0.6
_RARITY: Final = (1.0,) * BUCKETS
_YES: Final = re.compile(
    r"\W*(?:yes|yeah|yep|correct|certainly|absolutely|definitely|of course|true|sure)\b", re.IGNORECASE
)
_NO: Final = re.compile(r"\W*(?:no|nope|incorrect|false|not (?:really|necessarily|exactly))\b", re.IGNORECASE)
_ASKS_YES_OR_NO: Final = re.compile(
    r"(?:^|[.?!,:;]\s+)(?:is|are|am|was|were|do|does|did|can|could|will|would|should|shall|may|might|must|has|have|had)"
    r"(?:n't)?\s+\w[^.!?]*\?",
    re.IGNORECASE,
)
_ASKS_CHOICE: Final = re.compile(r"\bor\b", re.IGNORECASE)
_ASKS_NUMBER: Final = re.compile(
    r"\bhow (?:many|much|old|long|far|tall|high|deep|fast|big|large|heavy|often|cold|hot|wide)\b"
    r"|\b(?:what|which) (?:\w+ )?(?:year|number|percentage|percent|date|age|price|cost|sum|product|temperature|distance"
    r"|population|value|amount|probability|total|area|volume|speed|length|height|weight)\b"
    r"|\bwhen (?:is|was|were|did|does|will)\b|\b(?:calculate|compute|convert|solve|evaluate)\b|\d\s*[-+*/^x=]\s*\d",
    re.IGNORECASE,
)
_BOXED: Final = re.compile(r"\\boxed\{([^{}]*)\}|####\s*([^\n]+)|\*\*([^*\n]*\d[^*\n]*)\*\*")
_FENCED: Final = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
_SPACES: Final = re.compile(r"\s+")
_NUMBER: Final = re.compile(r"(?<![\w.])[-\u2212]?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?")


def agreement(question: str, kept: bytes, fresh: bytes, cosine: float | None = None) -> Verdict:
    """Of two chat completions. `cosine` is that of their texts' embeddings, where these are known."""
    said, calls = read(kept)
    told, others = read(fresh)
    if calls or others:
        return "same" if calls == others else "different"
    return of_texts(question, said, told, cosine)


def read(body: bytes) -> tuple[str, list[tuple[str, Any]]]:
    """An answer's text, and the tools that it calls with what; nothing where it can't be read."""
    try:
        message = msgspec.json.decode(body)["choices"][0]["message"]
        text, calls = message.get("content"), message.get("tool_calls") or []
        named = [(one["function"]["name"], _decoded(one["function"]["arguments"])) for one in calls]
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        return "", []
    return text if isinstance(text, str) else "", named


def of_texts(question: str, kept: str, fresh: str, cosine: float | None = None) -> Verdict:
    """Of two texts."""
    if not kept.strip() or not fresh.strip():
        return "undecided"
    if _plain(kept) == _plain(fresh):
        return "same"
    polarity = _of_polarity(question, kept, fresh)
    if polarity == "different":
        return polarity
    number = _of_number(question, kept, fresh)
    if number != "undecided":
        return number
    if _FENCED.search(kept) or _FENCED.search(fresh):
        return _of_code(kept, fresh)
    first, second = parse(kept, _RARITY), parse(fresh, _RARITY)
    if max(len(first.words), len(second.words)) <= SHORT_WORDS:
        return polarity if polarity == "same" else _of_facts(question, first, second)
    clash = set(first.numbers) != set(second.numbers) or (first.negations - second.negations) % 2
    return "same" if cosine is not None and cosine >= ALIKE and not clash else "undecided"


def _of_polarity(question: str, kept: str, fresh: str) -> Verdict:
    """What the first words say to a question that wants yes or no."""
    if not _ASKS_YES_OR_NO.search(question) or _ASKS_CHOICE.search(question):
        return "undecided"
    first, second = ((bool(_YES.match(text)), bool(_NO.match(text))) for text in (kept, fresh))
    if not any(first) or not any(second):
        return "undecided"
    return "same" if first == second else "different"


def _of_number(question: str, kept: str, fresh: str) -> Verdict:
    """The numbers at which answers to a question for one arrive."""
    if not _ASKS_NUMBER.search(question):
        return "undecided"
    first, second = _conclusion(question, kept), _conclusion(question, fresh)
    if first is None or second is None:
        return "undecided"
    return "same" if abs(first - second) <= 0.005 * max(abs(first), abs(second)) else "different"


def _conclusion(question: str, text: str) -> float | None:
    """The one number that a text arrives at: marked as the result, or the only one that the question does not name.

    None where it is not clear which that is.
    """
    marked = ["".join(groups) for groups in _BOXED.findall(text)]
    asked = {_value(one) for one in _NUMBER.findall(question)}
    for part in (marked[-1] if marked else "", text.rstrip().rpartition("=")[2] if "=" in text else "", text):
        found = {_value(one) for one in _NUMBER.findall(part)} - {None}
        new = found - asked
        if len(new) == 1:
            return new.pop()
        if len(found) == 1:
            return found.pop()
    return None


def _value(number: str) -> float | None:
    plain = number.replace(",", "").replace("\u2212", "-")
    over, _, under = plain.partition("/")
    try:
        return float(over) / float(under) if under else float(over)
    except (ValueError, ZeroDivisionError):
        return None


def _of_code(kept: str, fresh: str) -> Verdict:
    """Equal code is the same; programs may differ and do the same."""
    first, second = ([_plain(one) for one in _FENCED.findall(text)] for text in (kept, fresh))
    return "same" if first and first == second else "undecided"


def _of_facts(question: str, first: Parsed, second: Parsed) -> Verdict:
    """Short answers, but for the words that they take from the question."""
    asked = parse(question, _RARITY)
    ours, theirs = (set(one.content) - set(asked.content) for one in (first, second))
    if (first.negations - second.negations) % 2:
        return "undecided"
    if not ours or not theirs:
        return "same" if ours == theirs else "undecided"
    shared = len(ours & theirs) / min(len(ours), len(theirs))
    if set(first.numbers) != set(second.numbers) and first.numbers and second.numbers:
        return "different" if not set(first.numbers) & set(second.numbers) else "undecided"
    if shared >= _OVERLAP:
        return "same"
    names = set(first.propers) - set(asked.propers), set(second.propers) - set(asked.propers)
    return "different" if not shared and all(names) and not names[0] & names[1] else "undecided"


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text.casefold().replace("**", "")).strip(" .!\"'`")


def _decoded(arguments: Any) -> Any:
    try:
        return msgspec.json.decode(arguments)
    except (msgspec.DecodeError, TypeError):
        return arguments
