"""A stream never costs more than is set aside for it, however its events come in heaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.base import Need
from gateway.dispatch.meters.base import Meter
from gateway.dispatch.meters.find import meter_class
from gateway.spending import Spending
from gateway.wire.sse import DONE, event
from policies.catalogue import ModelCard

CARD = ModelCard(id="m", context_tokens=100_000, price_in_usd_per_mtok=1.0, price_out_usd_per_mtok=1.0)
NANOUSD_A_TOKEN = 1_000
TEXTS = st.one_of(
    st.sampled_from([" the", " of", "ing", "7", "\n", "{", " two words", "Sitzung", "会议", "ก", "😀", "", "aGVsbG8="]),
    st.text(max_size=400),
)
USAGE = b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5000,"total_tokens":5009}}'


@dataclass
class Purse:
    """A lease over a budget of `limit_nanousd`, where extensions beyond it are refused."""

    limit_nanousd: int
    reserved_nanousd: int
    asked: list[int] = field(default_factory=list)
    place: int = 0
    hard: bool = True
    headers: tuple[tuple[bytes, bytes], ...] = ()

    async def extend(self, cost_nanousd: int) -> bool:
        self.asked.append(cost_nanousd)
        if cost_nanousd > self.limit_nanousd:
            return False
        self.reserved_nanousd = max(self.reserved_nanousd, cost_nanousd)
        return True

    async def move(self, need: Need) -> bool:
        return False

    def settle(self, cost_nanousd: int, tokens: int) -> None: ...


def said(text: str, dialect: str = "chat") -> bytes:
    if dialect == "messages":
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        return b"event: content_block_delta\n" + event(msgspec.json.encode(delta))
    if dialect == "responses":
        return event(msgspec.json.encode({"type": "response.output_text.delta", "sequence_number": 1, "delta": text}))
    return event(msgspec.json.encode({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}))


def purse(reserved: int, more: int = 0) -> Purse:
    """One that has so many tokens, and could get so many more."""
    return Purse((reserved + more) * NANOUSD_A_TOKEN, reserved * NANOUSD_A_TOKEN)


async def streamed(frames: list[bytes], money: Purse, dialect: str = "chat") -> tuple[Meter, bytes]:
    """The meter once the stream has ended or was cut, and what the client has seen."""
    meter = meter_class(dialect)(CARD, 0, True)
    spending, shown = Spending(money, meter, CARD, 0, time()), b""
    for frame in frames:
        if not meter.done:
            shown += await spending.heard(frame)
        if spending.exhausted:
            return meter, shown + meter.cut()
    return meter, shown


@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
@settings(max_examples=60, deadline=None)
@given(heaps=st.lists(st.lists(TEXTS, max_size=12), max_size=8), reserved=st.integers(0, 500), more=st.integers(0, 900))
async def test_a_stream_costs_no_more_than_is_set_aside_whatever_it_says_in_whatever_heaps(
    dialect: str, heaps: list[list[str]], reserved: int, more: int
) -> None:
    money = purse(reserved, more)
    frames = [b"".join(said(text, dialect) for text in heap) for heap in heaps if heap]

    meter, shown = await streamed(frames, money, dialect)

    assert meter.settle().cost_nanousd <= money.reserved_nanousd <= money.limit_nanousd
    assert meter.done or shown == b"".join(frames)


@pytest.mark.parametrize("size", [1, 7, 60, 5_000])
async def test_a_heap_is_cut_inside_and_what_was_not_shown_does_not_count(size: int) -> None:
    heaps = [said(" word") * size for _ in range(5_000 // size)]

    meter, shown = await streamed([*heaps, event(USAGE) + DONE], purse(100))

    usage = meter.settle()
    assert 80 <= usage.output_tokens <= 100 and usage.estimated
    assert shown.count(b" word") == usage.output_tokens and shown.endswith(DONE)
    assert meter.finish_reason == "length"


async def test_events_that_say_nothing_make_no_room() -> None:
    nothing = b": still here" + b"." * 300 + b"\n\n"
    money = purse(1_000)

    meter, _ = await streamed([*[said(" word")] * 10, nothing] * 400, money)

    assert meter.done and meter.settle().cost_nanousd <= money.reserved_nanousd


async def test_the_usage_that_an_upstream_tells_at_its_end_passes_whatever_it_says() -> None:
    ending = event(b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}') + event(USAGE) + DONE

    meter, shown = await streamed([said(" word") + ending], purse(20))

    assert meter.done and meter.finish_reason == "stop" and meter.settle().output_tokens == 5_000
    assert shown.endswith(DONE)


@settings(max_examples=60, deadline=None)
@given(text=st.sampled_from([" the", "会议", " some words and more"]), reserved=st.integers(50, 600))
async def test_a_stream_may_use_nearly_all_that_there_is(text: str, reserved: int) -> None:
    meter, _ = await streamed([said(text)] * 1_000, purse(reserved // 2, reserved - reserved // 2))

    assert meter.done and meter.running_cost_nanousd >= 0.7 * reserved * NANOUSD_A_TOKEN - 10 * NANOUSD_A_TOKEN


async def test_a_budget_with_room_is_asked_for_more_and_nothing_is_cut() -> None:
    money = purse(500, 10**6)

    meter, _ = await streamed([said(" the")] * 6_000, money)

    assert not meter.done and meter.settle().output_tokens == 6_000
    assert len(money.asked) < 12
