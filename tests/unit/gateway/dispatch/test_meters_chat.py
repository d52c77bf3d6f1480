"""The chat meter: usage, cost and how a stream ends."""

import json

import pytest

from gateway.dispatch.meters.chat import ChatMeter
from gateway.errors import UpstreamBroken
from gateway.wire.sse import DONE
from policies.catalogue import ModelCard

CARD = ModelCard(
    id="m",
    context_tokens=1000,
    price_in_usd_per_mtok=2.0,
    price_out_usd_per_mtok=8.0,
    price_cached_in_usd_per_mtok=0.5,
)
USAGE = b'{"prompt_tokens":100,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":40},"x":[1]}'
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"say \\"usage\\": {"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE_CHUNK = b'data: {"id":"c","choices":[],"usage":' + USAGE + b"}\n\n"


def said(text: str) -> bytes:
    return b"data: %b\n\n" % json.dumps({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}]}).encode()


COST_NANOUSD = 60 * 2000 + 40 * 500 + 10 * 8000


def test_a_whole_answer_keeps_its_bytes_and_gains_its_cost() -> None:
    body = b'{"id":"c", "choices":[{"finish_reason":"length","x": 1.50}],"usage":' + USAGE + b"}"
    meter = ChatMeter(CARD, prompt_tokens=5, wants_usage=False)

    shown = meter.whole(body)

    assert b'"choices":[{"finish_reason":"length","x": 1.50}]' in shown
    assert json.loads(shown)["usage"] == json.loads(USAGE) | {"cost": COST_NANOUSD / 1e9}
    assert (meter.settle().cost_nanousd, meter.finish_reason) == (COST_NANOUSD, "length")


def test_usage_is_hidden_from_a_client_that_did_not_ask() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)

    shown = b"".join(meter.stream(frame) for frame in (CHUNK, FINISH, USAGE_CHUNK, DONE))

    assert shown == CHUNK + FINISH + DONE
    assert meter.settle().cost_nanousd == COST_NANOUSD


def test_usage_reaches_a_client_that_asked_with_its_cost() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=True)

    shown = meter.stream(CHUNK + FINISH + USAGE_CHUNK + DONE)

    last = json.loads(shown.split(b"\n\n")[2][6:])
    assert last["usage"]["cost"] == COST_NANOUSD / 1e9
    assert last["usage"]["x"] == [1]
    assert shown.endswith(DONE)


def test_null_usage_is_hidden_too_but_text_about_usage_is_not_touched() -> None:
    chunk = CHUNK.replace(b'"id":"c"', b'"id":"c","usage":null')

    assert ChatMeter(CARD, 5, wants_usage=False).stream(chunk) == CHUNK
    assert ChatMeter(CARD, 5, wants_usage=True).stream(chunk) == chunk


def test_usage_in_the_finishing_chunk_is_taken_out_without_losing_the_chunk() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)

    shown = json.loads(meter.stream(FINISH[:-3] + b',"usage":' + USAGE + b"}\n\n")[6:])

    assert "usage" not in shown
    assert shown["choices"][0]["finish_reason"] == "stop"
    assert meter.settle().output_tokens == 10


def test_a_finished_stream_without_its_end_mark_is_given_one() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)
    meter.stream(CHUNK + FINISH)

    assert meter.end_of_stream() == DONE
    assert meter.end_of_stream() == b""


def test_a_stream_that_stops_in_the_middle_is_broken() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)
    meter.stream(CHUNK)

    with pytest.raises(UpstreamBroken):
        meter.end_of_stream()


def test_tokens_are_estimated_and_marked_where_nobody_counted() -> None:
    meter = ChatMeter(CARD, prompt_tokens=7, wants_usage=False)
    meter.stream(said("The committee will meet on Thursday to discuss the budget for next year, "))
    meter.stream(said("and elect a chair."))

    usage = meter.settle()

    assert (usage.input_tokens, usage.estimated) == (7, True)
    assert 17 <= usage.output_tokens <= 23  # o200k counts 20
    assert usage.cost_nanousd == 7 * 2000 + usage.output_tokens * 8000


def test_a_stream_of_single_tokens_is_counted_by_its_events() -> None:
    meter = ChatMeter(CARD, 7, wants_usage=False)
    for word in ("Int", "ernational", "ization", " is", " hard", ",", " isn", "'t", " it", "?") * 3:
        meter.stream(said(word))

    assert meter.settle().output_tokens == 30


@pytest.mark.parametrize(
    "usage", [b"null", b"3", b'{"prompt_tokens":-5,"completion_tokens":1}', b'{"prompt_tokens":"9"}']
)
def test_nonsense_usage_never_becomes_a_cost(usage: bytes) -> None:
    meter = ChatMeter(CARD, prompt_tokens=4, wants_usage=False)

    meter.whole(b'{"choices":[],"usage":' + usage + b"}")

    assert meter.settle().estimated
    assert meter.settle().cost_nanousd >= 4 * 2000


@pytest.mark.parametrize("body", [b"{", b'{"object":"x"}', b'{"choices":[}'])
def test_an_answer_that_is_none_is_broken(body: bytes) -> None:
    with pytest.raises(UpstreamBroken):
        ChatMeter(CARD, 5, wants_usage=False).whole(body)


def test_unknown_price_gives_null_not_zero() -> None:
    unpriced = ModelCard(id="u", context_tokens=10)

    shown = json.loads(ChatMeter(unpriced, 5, wants_usage=False).whole(b'{"choices":[],"usage":' + USAGE + b"}"))

    assert shown["usage"]["cost"] is None
