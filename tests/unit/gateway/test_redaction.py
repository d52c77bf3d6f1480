"""Log lines: no secret, no forged line."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redaction import Redactor, SafeFormatter, harmless


def _record(message: str) -> logging.LogRecord:
    return logging.LogRecord("fingerpost.test", logging.WARNING, "", 0, message, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key: sk-proj-AbCdEf0123456789xyz",
        "key fp-abcdefghijkl-0123456789abcdefghijklmnopqrstuvwxyz0123456 was refused",
        "Authorization: Bearer abcdef0123456789",
        "x-api-key: abcdef0123456789",
        "postgresql://user:hunter2secret@db.example/name",
        'password="hunter2secret"',
    ],
)
def test_secrets_are_known_by_their_shape(text: str) -> None:
    shown = Redactor()(text)

    assert "[redacted]" in shown
    assert not any(
        secret in shown for secret in ("AbCdEf0123456789", "0123456789abcdef", "abcdef0123", "hunter2secret")
    )


def test_a_value_that_was_told_is_hidden_whatever_it_looks_like() -> None:
    redact = Redactor(["correct horse battery", "short"])

    assert redact("it said correct horse battery and short words") == "it said [redacted] and short words"


@given(st.text())
def test_a_text_line_is_one_line_whatever_a_client_sends(text: str) -> None:
    line = SafeFormatter(Redactor(), as_json=False).format(_record(text))

    assert len(line.splitlines()) == 1


@given(st.text())
def test_a_json_line_is_one_object(text: str) -> None:
    line = SafeFormatter(Redactor(), as_json=True).format(_record(text))

    assert "\n" not in line
    assert json.loads(line)["level"] == "warning"


def test_ordinary_words_are_left_alone() -> None:
    text = "endpoint openai-main: The upstream limits the rate of requests. 3 policies, 120 s, /v1/chat/completions"

    assert Redactor()(text) == text


def test_secrets_that_are_learnt_later_are_hidden_too() -> None:
    redact, keys = Redactor(), ["first-vendor-value"]
    redact.more = lambda: keys
    before = redact("first-vendor-value, second-vendor-value")

    keys.append("second-vendor-value")

    assert before == "[redacted], second-vendor-value"
    assert redact("first-vendor-value, second-vendor-value") == "[redacted], [redacted]"


@given(st.text(st.sampled_from("a\x7f\x85\x9b\u2028\u202e\u2066é🙂")))
def test_a_json_line_shows_nothing_that_misleads_and_still_says_it(text: str) -> None:
    line = harmless(json.dumps({"text": text}, ensure_ascii=False).encode())

    assert json.loads(line) == {"text": text}
    assert not set(line.decode()) & set("\x7f\x85\x9b\u2028\u202e\u2066")
