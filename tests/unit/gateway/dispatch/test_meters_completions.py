"""The meter of text completions that come from endpoints of their own dialect."""

from __future__ import annotations

import json
from typing import Any

from gateway.dispatch.meters.completions import CompletionsMeter
from gateway.dispatch.meters.find import meter_class
from gateway.dispatch.meters.rerank import RerankMeter
from gateway.wire.sse import DONE, event
from policies.catalogue import ModelCard

CARD = ModelCard(id="m", context_tokens=100, price_in_usd_per_mtok=1, price_out_usd_per_mtok=2)
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish}
    return event(json.dumps({"id": "cmpl-1", "object": "text_completion", "choices": [choice]}).encode())


def test_a_whole_answer_is_given_its_cost() -> None:
    meter = meter_class("completions")(CARD, 4, wants_usage=True)
    body = json.dumps({"choices": [{"text": "x", "index": 0, "finish_reason": "stop"}], "usage": USAGE}).encode()

    shown = json.loads(meter.whole(body))

    assert isinstance(meter, CompletionsMeter)
    assert shown["usage"] == {**USAGE, "cost": 17e-6} and meter.finish_reason == "stop"


def test_usage_that_nobody_asked_for_is_hidden_and_all_else_is_byte_for_byte() -> None:
    meter = CompletionsMeter(CARD, 4, wants_usage=False)
    usage = event(json.dumps({"choices": [], "usage": USAGE}).encode())

    shown = b"".join(map(meter.stream, [chunk("a"), chunk("b", "stop"), usage, DONE]))

    assert shown == chunk("a") + chunk("b", "stop") + DONE
    assert meter.done and meter.settle().output_tokens == 5


def test_a_stream_that_is_cut_ends_in_this_dialects_words() -> None:
    meter = CompletionsMeter(CARD, 4, wants_usage=True)
    meter.stream(chunk("once upon a time"))

    ended, usage = (json.loads(text.removeprefix("data: ")) for text in meter.cut().decode().split("\n\n")[:-2])

    assert ended["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]
    assert ended["fingerpost"] == {"budget_exhausted": True}
    assert usage["usage"]["estimated"] is True and usage["usage"]["completion_tokens"] >= 3


def test_reranking_costs_its_input_however_the_upstream_tells_it() -> None:
    told: list[dict[str, Any]] = [{"usage": {"total_tokens": 9}}, {"meta": {"tokens": {"input_tokens": 9.0}}}, {}]

    meters = [RerankMeter(CARD, 4) for _ in told]
    bodies = [json.dumps({"results": [], **said}).encode() for said in told]
    shown = [json.loads(one.whole(body)) for one, body in zip(meters, bodies, strict=True)]

    assert [one.settle().input_tokens for one in meters] == [9, 9, 4]
    assert [one["usage"]["cost"] for one in shown] == [9e-6, 9e-6, 4e-6]
    assert shown[2]["usage"]["estimated"] is True
