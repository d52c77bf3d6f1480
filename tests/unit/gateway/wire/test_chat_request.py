"""The chat request: what is refused, by which field, and what travels on untouched."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.wire.chat_request import content_kinds, parse_chat, text_of

HELLO = [{"role": "user", "content": "hello"}]


def body(**fields: object) -> bytes:
    return json.dumps({"model": "auto", "messages": HELLO} | fields).encode()


WRONG = [
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b"\xff\xfe", None),
    (b'{"model":"auto"}', "messages"),
    (b'{"messages":[]}', "messages"),
    (body(messages=[]), "messages"),
    (body(messages="hi"), "messages"),
    (body(messages=[{"content": "x"}]), "messages[0].role"),
    (body(messages=[{"role": "robot", "content": "x"}]), "messages[0].role"),
    (body(messages=[{"role": "user"}]), "messages[0].content"),
    (body(messages=[{"role": "tool", "content": "x"}]), "messages[0].tool_call_id"),
    (body(messages=[{"role": "user", "content": [{"type": "text", "text": 3}]}]), "messages[0].content[0].text"),
    (body(max_tokens=-1), "max_tokens"),
    (body(max_tokens=0), "max_tokens"),
    (body(max_completion_tokens=1.5), "max_completion_tokens"),
    (body(temperature="hot"), "temperature"),
    (body(temperature=2.5), "temperature"),
    (body(n=0), "n"),
    (body(stop=[1]), "stop[0]"),
    (body(stream="yes"), "stream"),
    (body(top_logprobs=3), "top_logprobs"),
    (body(stream_options={"include_usage": True}), "stream_options"),
    (body(tools={}), "tools"),
    (b'{"model":"auto","messages":[{"role":"user","content":"x"}],"temperature":NaN}', None),
    (b'{"model":"auto","messages":[{"role":"user","content":"x"}],"x":' + b"[" * 90000 + b"]" * 90000 + b"}", None),
]


@pytest.mark.parametrize(("given_body", "param"), WRONG)
def test_a_wrong_body_is_refused_by_the_name_of_its_field(given_body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(given_body)

    assert caught.value.param == param
    assert caught.value.http_status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=10).map(lambda name: "x_" + name), JSON, max_size=4))
def test_unknown_fields_travel_on_with_their_values(extra: dict[str, object]) -> None:
    sent = json.loads(parse_chat(body(**extra)).wire_body("wire"))

    assert sent == {"model": "wire", "messages": HELLO} | extra


def test_raw_values_keep_their_bytes() -> None:
    odd = b'{"model":"auto","messages":[{"role":"user","content":"x","y": [1,  2.50]}],"seed":1e2 }'

    with pytest.raises(InvalidRequest):
        parse_chat(odd)
    kept = parse_chat(odd.replace(b"1e2", b"7")).wire_body("m")

    assert kept == b'{"model":"m","messages":[{"role":"user","content":"x","y": [1,  2.50]}],"seed":7}'


def test_a_stream_always_asks_the_upstream_for_usage() -> None:
    request = parse_chat(body(stream=True, stream_options={"include_obfuscation": False}))

    sent = json.loads(request.wire_body("m"))

    assert sent["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert not request.wants_usage


def test_a_request_without_stream_is_not_given_stream_options() -> None:
    assert b"stream_options" not in parse_chat(body()).wire_body("m")


def test_parts_count_as_text_and_as_their_kind() -> None:
    parts = [{"type": "text", "text": "what is"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    request = parse_chat(body(messages=[{"role": "user", "content": parts}]))

    assert content_kinds(request.envelope) == {"text", "image"}
    assert text_of(request.envelope.messages[0]) == "what is"


def test_either_name_of_the_token_cap_is_understood() -> None:
    assert parse_chat(body(max_tokens=5)).max_output_tokens == 5
    assert parse_chat(body(max_tokens=5, max_completion_tokens=7)).max_output_tokens == 7
    assert msgspec.json.decode(parse_chat(body(max_tokens=5)).wire_body("m"))["max_tokens"] == 5


def test_nesting_beyond_the_bound_is_refused_and_brackets_in_texts_do_not_count() -> None:
    deep = b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "metadata": ' + b"[" * 70 + b"]" * 70 + b"}"
    flat = b'{"model": "m", "messages": [{"role": "user", "content": "\\"' + b"[{" * 70 + b'"}]}'

    with pytest.raises(InvalidRequest, match="nested more than 64 levels"):
        parse_chat(deep)
    assert parse_chat(flat).envelope.model == "m"
