"""Whatever strangers send as a request of either dialect, they get an answer or an error of ours."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.wire.chat_plain import plain
from gateway.wire.chat_request import parse_chat
from gateway.wire.chat_to_messages import messages_body
from gateway.wire.messages_request import MessagesDialect

NAMES = st.sampled_from(
    [
        "type",
        "text",
        "source",
        "data",
        "media_type",
        "url",
        "file_id",
        "tool_use_id",
        "id",
        "name",
        "input",
        "content",
        "is_error",
        "thinking",
        "signature",
        "title",
        "citations",
        "enabled",
        "cache_control",
        "caller",
        "role",
        "function",
        "arguments",
        "file",
        "file_data",
        "filename",
        "image_url",
        "detail",
        "strict",
        "parameters",
        "input_schema",
        "description",
        "format",
        "schema",
        "json_schema",
        "effort",
        "budget_tokens",
        "user_id",
        "refusal",
        "tool_calls",
        "thinking_blocks",
        "tool_call_id",
        "disable_parallel_tool_use",
    ]
)
KINDS = st.sampled_from(
    [
        "text",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "redacted_thinking",
        "base64",
        "url",
        "file",
        "image_url",
        "function",
        "custom",
        "tool",
        "auto",
        "any",
        "none",
        "enabled",
        "json_schema",
        "assistant",
        "user",
        "system",
        "data:text/plain;base64,eA==",
        "{}",
    ]
)
STRANGE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
BLOCKS = st.lists(
    st.dictionaries(NAMES, STRANGE, max_size=5).flatmap(lambda one: KINDS.map(lambda k: {**one, "type": k}))
)
FIELDS = st.sampled_from(
    [
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "metadata",
        "output_config",
        "service_tier",
        "cache_control",
        "stop_sequences",
        "stream",
        "reasoning_effort",
        "response_format",
        "parallel_tool_calls",
        "temperature",
        "top_k",
        "stop",
        "user",
        "safety_identifier",
        "functions",
        "prediction",
        "seed",
        "n",
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    roles = draw(st.lists(st.sampled_from(["user", "assistant", "system", "tool"]), min_size=1, max_size=3))
    extra = st.dictionaries(NAMES.filter(lambda name: name not in ("role", "content")), STRANGE, max_size=2)
    turns = [{**draw(extra), "role": role, "content": draw(st.text(max_size=3) | BLOCKS)} for role in roles]
    rest = draw(st.dictionaries(FIELDS, STRANGE | BLOCKS, max_size=4))
    return json.dumps({"model": "m", "max_tokens": 9, "messages": turns, **rest}).encode()


@given(requests())
def test_a_strange_request_of_anthropics_api_is_read_or_refused(body: bytes) -> None:
    with suppress(GatewayError):
        request = MessagesDialect().parse(body)
        assert json.loads(plain(request).wire_body("w"))["model"] == "w"


@given(requests())
def test_a_strange_chat_is_said_in_anthropics_words_or_refused(body: bytes) -> None:
    with suppress(GatewayError):
        assert json.loads(messages_body(parse_chat(body), "w", 9))["model"] == "w"
