"""The final answer of a text, normalised so that equal answers are equal texts. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import msgspec

SHORT_CHARS = 80
SHORT_WORDS = 12
# Answers stand at the end; nothing before is searched.
TAIL_CHARS = 4_000

_HASHES = re.compile(r"^\s*####\s*(\S.{0,199})$", re.MULTILINE)
_SAID = re.compile(
    r"(?:the (?:final |correct |best )?answer is|final answer|^answer"
    r"|die (?:endgültige |richtige )?antwort (?:ist|lautet)|^antwort"
    r"|la réponse (?:finale )?est|^réponse|la respuesta (?:final |correcta )?es|^respuesta"
    r"|la risposta (?:finale )?è|^risposta|a resposta (?:final )?é|^resposta|ответ|答案(?:是|为)?|答えは)"
    r"[\s*]*[:\uff1a]?[\s*]*(\S[^\n]{0,199})",
    re.IGNORECASE | re.MULTILINE,
)
_OPTION = re.compile(r"^\(?([a-j])\)?(?:[.):,]\s.*|[.):]?)$", re.DOTALL)
_NUMBER = re.compile(r"^[$€£]?\s*([+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?|[+-]?\d*\.?\d+(?:e[+-]?\d+)?)\s*(%|°|percent)?$")
_SENTENCE_END = re.compile(r"[.!?。]\s")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}")
_PLAIN = str.maketrans({"*": " ", "`": " ", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " "})


@dataclass(frozen=True, slots=True)
class Final:
    """`text` is equal for equal answers; `comparable` says whether it is short enough that equality can be expected."""

    text: str
    comparable: bool


def final_of(text: str) -> Final:
    """What a text ends on: a box, a marked answer, an "answer is", JSON, or the text itself where it is short."""
    tail = text[-TAIL_CHARS:].strip()
    found = _boxed(tail) or _last(_HASHES, tail) or _stated(tail)
    if found is not None:
        return Final(normalised(found), True)
    data = _data(tail)
    if data is not None:
        return Final(data, True)
    whole = normalised(tail)
    return Final(whole, bool(whole) and len(whole) <= SHORT_CHARS and len(whole.split()) <= SHORT_WORDS)


def normalised(answer: str) -> str:
    """Without case, markup, units of decoration and closing punctuation; numbers and options in one spelling."""
    plain = _WRAPPED.sub(r"\1", answer).translate(_PLAIN).replace("\\$", "$").replace("\\%", "%")
    plain = " ".join(plain.split()).strip(" $\"'").rstrip(".!?。;,:").strip(" $\"'").casefold()
    option = _OPTION.match(plain)
    if option is not None:
        return option.group(1)
    number = _NUMBER.match(plain)
    return plain if number is None else _number(number.group(1)) + ("%" if number.group(2) in ("%", "percent") else "")


def _number(written: str) -> str:
    try:
        value = Decimal(written.replace(",", "")).normalize()
    except InvalidOperation:
        return written
    if abs(value.adjusted()) > 30:  # would be written out in full
        return str(value)
    return format(value or Decimal(0), "f")


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.findall(text)
    return found[-1].strip() if found else None


def _stated(text: str) -> str | None:
    """What stands behind the last "the answer is", up to the end of its sentence."""
    found = _last(_SAID, text)
    return None if found is None else _SENTENCE_END.split(found, maxsplit=1)[0]


def _boxed(text: str) -> str | None:
    r"""What the last \boxed{...} holds; braces may nest."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    begin = start + len("\\boxed{")
    depth = 1
    for place in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[begin:place].strip() or None
    return None


def _data(text: str) -> str | None:
    """JSON in one spelling, with or without a fence around it; None for what is none."""
    bare = text.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if not bare.startswith(("{", "[")):
        return None
    try:
        return msgspec.json.encode(msgspec.json.decode(bare), order="sorted").decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
