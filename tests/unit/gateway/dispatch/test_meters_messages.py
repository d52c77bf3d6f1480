"""The meter of Anthropic's own streams and answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dispatch.meters.find import meter_class
from gateway.dispatch.meters.messages import MessagesMeter
from gateway.errors import UpstreamBroken
from policies.catalogue import ModelCard
from tests.unit.gateway.wire.message_shapes import accumulated

CARD = ModelCard(
    id="m",
    context_tokens=1000,
    price_in_usd_per_mtok=10,
    price_cached_in_usd_per_mtok=1,
    price_cache_write_usd_per_mtok=12.5,
    price_cache_write_long_usd_per_mtok=20,
    price_out_usd_per_mtok=50,
)
USAGE = {"input_tokens": 100, "cache_creation_input_tokens": 40, "cache_read_input_tokens": 20, "output_tokens": 1}
COST = 100 * 10_000 + 40 * 12_500 + 20 * 1_000


def events(*told: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in told)


START = events({"type": "message_start", "message": {"model": "w-1", "content": [], "usage": USAGE}})
TEXT = events(
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "four words of text"}},
)
STOP = events({"type": "content_block_stop", "index": 0})
LAST = events(
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 30}, "later": 1.0}
)
END = events({"type": "message_stop"})


def meter() -> MessagesMeter:
    return MessagesMeter(CARD, 160, wants_usage=False)


def test_it_is_found_by_its_dialect() -> None:
    assert meter_class("messages") is MessagesMeter


def test_a_stream_passes_byte_for_byte_but_for_the_cost_in_its_last_usage() -> None:
    one = meter()

    shown = [one.stream(frame) for frame in (START, TEXT, STOP, LAST, END)]

    assert shown[:3] == [START, TEXT, STOP] and shown[4] == END
    last = json.loads(shown[3].split(b"data: ")[1])
    assert shown[3].startswith(b"event: message_delta\ndata: ")
    assert last["usage"] == {"output_tokens": 30, "cost": (COST + 30 * 50_000) / 1e9}
    assert last["later"] == 1.0
    assert one.done and one.end_of_stream() == b""


def test_usage_is_told_in_openais_counting() -> None:
    one = meter()
    for frame in (START, TEXT, STOP, LAST, END):
        one.stream(frame)

    usage = one.settle()

    assert (usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.output_tokens) == (160, 20, 40, 30)
    assert (usage.cost_nanousd, usage.estimated) == (COST + 30 * 50_000, False)
    assert one.finish_reason == "end_turn"


def test_an_aborted_stream_knows_its_prompt_and_guesses_its_output() -> None:
    one = meter()
    one.stream(START)
    one.stream(TEXT)

    usage = one.settle()

    assert usage.estimated
    assert usage.input_tokens == 160
    assert 3 <= usage.output_tokens <= 6
    assert one.running_cost_nanousd >= usage.cost_nanousd
    with pytest.raises(UpstreamBroken):
        one.end_of_stream()


def test_a_cut_ends_the_block_and_the_message_and_says_why() -> None:
    one = meter()
    frames = one.stream(START) + one.stream(TEXT) + one.cut()

    told = [json.loads(text.split(b"data: ")[1]) for text in frames.split(b"\n\n")[:-1]]

    assert accumulated(told)["stop_reason"] == "max_tokens"
    assert told[-2]["fingerpost"] == {"budget_exhausted": True}
    assert told[-2]["usage"]["cost"] == one.settle().cost_nanousd / 1e9
    assert told[-2]["usage"]["estimated"] is True
    assert one.cut() == b""


def test_a_cut_after_the_last_usage_only_ends() -> None:
    one = meter()
    for frame in (START, TEXT, STOP, LAST):
        one.stream(frame)

    assert one.cut() == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    assert one.finish_reason == "end_turn"


def test_counts_never_shrink() -> None:
    one = meter()
    one.stream(START)
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 0, "output_tokens": 5},
    }
    one.stream(events(delta))

    assert one.settle().input_tokens == 160


def test_a_whole_answer_is_given_its_cost_and_keeps_all_other_bytes() -> None:
    creation = {"ephemeral_1h_input_tokens": 40, "ephemeral_5m_input_tokens": 0}
    usage = json.dumps({**USAGE, "output_tokens": 30, "cache_creation": creation}).encode()
    body = b'{"content":[{"type":"text","text":"x", "odd":1.50}],"stop_reason":"tool_use","usage":%b}' % usage
    one = meter()

    shown = one.whole(body)

    assert b'[{"type":"text","text":"x", "odd":1.50}]' in shown
    assert json.loads(shown)["usage"]["cost"] == one.settle().cost_nanousd / 1e9
    assert one.settle().cost_nanousd == COST + 40 * 7_500 + 30 * 50_000
    assert (one.done, one.finish_reason) == (True, "tool_use")


def test_a_whole_answer_without_usage_is_estimated() -> None:
    one = meter()

    shown = json.loads(one.whole(b'{"type":"message","content":[{"type":"text","text":"four words of text"}]}'))

    assert shown["usage"]["estimated"] is True
    assert (one.settle().input_tokens, shown["usage"]["output_tokens"] > 2) == (160, True)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"error":{}}', b"[]"])
def test_what_is_no_message_is_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        meter().whole(body)
