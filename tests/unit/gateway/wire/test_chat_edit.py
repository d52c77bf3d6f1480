"""Requests with other parameters; envelope and raw fields must say the same."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.wire.chat_edit import as_chat, as_sample, as_whole, for_judging, with_logprobs, with_note
from gateway.wire.chat_request import ChatRequest, parse_chat
from gateway.wire.messages_request import MessagesDialect
from tests.unit.gateway.dispatch.calls import chat


def agree(request: ChatRequest) -> None:
    """The envelope is what parsing the fields would give."""
    again = parse_chat(msgspec.json.encode(request.fields))
    assert msgspec.to_builtins(again.envelope) == msgspec.to_builtins(request.envelope)


def test_a_whole_answer_is_asked_for_without_the_options_of_a_stream() -> None:
    request = as_whole(chat(stream=True, stream_options={"include_usage": True}, top_p=0.5))

    assert not request.stream and not request.wants_usage and "stream" not in request.fields
    agree(request)


def test_what_is_whole_already_is_the_same_object() -> None:
    request = chat()

    assert as_whole(request) is request and as_sample(request, 3, None) is request and as_chat(request) is request


def test_samples_log_probabilities_and_notes_are_said_in_both_forms() -> None:
    request = chat(seed=1)

    for changed in (as_sample(request, 2, 0.5), with_logprobs(request), with_note(request, "More, please.")):
        agree(changed)
    assert with_note(request, "More, please.").envelope.messages[-1].content == "More, please."


def test_a_judge_is_asked_in_a_free_form() -> None:
    shape: dict[str, Any] = {"response_format": {"type": "json_object"}, "stop": ["x"], "n": 1, "logit_bias": {"1": 2}}
    request = for_judging(chat(stream=True, temperature=2, max_completion_tokens=9, user="u", **shape), "Which?", 16)

    assert request.max_output_tokens == 16 and not request.stream
    assert set(request.fields) == {"model", "messages", "user", "max_tokens"}
    agree(request)


def test_a_message_s_own_form_is_no_longer_sent_as_it_came() -> None:
    body = {"model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    request = as_chat(MessagesDialect().parse(msgspec.json.encode(body)))

    assert request.original is not None and request.original.dialect not in ("messages", "chat", "responses")
