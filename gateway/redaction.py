"""Keeps secrets out of everything that people read: logs, errors, traces. Knows shapes and a few exact values."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable

import msgspec

HIDDEN = "[redacted]"
_LEAST_EXACT_CHARS = 8
# Tokens that vendors and we hand out, credentials in URLs and headers.
_SHAPES = re.compile(
    r"\b(?:sk|pk|rk|fp|gsk|xai|hf|ghp|glpat|AKIA|AIza)[-_A-Za-z0-9]{12,}"
    r"|(?i:\b(?:bearer|basic)\s+)[-._~+/A-Za-z0-9]{8,}=*"
    r"|(?i:\b(?:x-api-key|api[-_]?key|authorization|cookie|password|secret)[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic)\s+)?)[^\s\"',;&]{4,}"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
)
# What a terminal, or an eye, may take for something else than text, and JSON leaves as it is.
_MISLEADING = r"\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(rf"[\x00-\x08\x0b-\x1f{_MISLEADING}]")
_LEFT_BY_JSON = re.compile(rf"[{_MISLEADING}]")


def hide_shapes(text: str) -> str:
    """The text without what looks like a secret."""
    return _SHAPES.sub(HIDDEN, text)


def harmless(line: bytes) -> bytes:
    """A line of JSON with DEL, C1 controls, line separators and marks of direction escaped too."""
    if line.isascii() and b"\x7f" not in line:
        return line
    return _LEFT_BY_JSON.sub(lambda found: f"\\u{ord(found.group()):04x}", line.decode()).encode()


class Redactor:
    """Blots out secrets by shape, and exactly those it was told. `more` says which others there are by now."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._told = frozenset(secrets)
        self._known: frozenset[str] = frozenset()
        self._exact: re.Pattern[str] | None = None
        self.more: Callable[[], Iterable[str]] = tuple

    def _learn(self) -> None:
        """Too short values would blot out ordinary words and are left alone."""
        known = self._told.union(self.more())
        if known == self._known:
            return
        self._known = known
        usable = sorted((one for one in known if len(one) >= _LEAST_EXACT_CHARS), key=len, reverse=True)
        self._exact = re.compile("|".join(map(re.escape, usable))) if usable else None

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        self._learn()
        if self._exact is not None:
            text = self._exact.sub(HIDDEN, text)
        return hide_shapes(text)


class SafeFormatter(logging.Formatter):
    """One entry, one line, no secret: line breaks of a message are shown as `\\n`, other control characters as codes.

    As text, or as JSON objects with `at`, `level`, `logger` and `message`.
    """

    def __init__(self, redact: Redactor, as_json: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._redact = redact
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """The finished line."""
        if self._as_json:
            fields = {
                "at": self.formatTime(record),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": self._redact(_with_trace(self, record)),
            }
            return harmless(msgspec.json.encode(fields)).decode()
        text = self._redact(super().format(record))
        return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text.replace("\n", "\\n"))


def _with_trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    return f"{text}\n{formatter.formatException(record.exc_info)}" if record.exc_info else text
