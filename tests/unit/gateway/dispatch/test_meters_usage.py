"""What the chat meter reads of usage in all its spellings, wherever it comes in a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.dispatch.meters.base import Usage
from gateway.dispatch.meters.chat import ChatMeter
from gateway.dispatch.meters.chat_wire import read_usage
from gateway.dispatch.meters.embeddings import EmbeddingsMeter
from gateway.dispatch.meters.find import meter_class
from gateway.errors import UpstreamBroken
from gateway.wire.sse import DONE
from policies.catalogue import ModelCard

CARD = ModelCard(
    id="m",
    context_tokens=1000,
    price_in_usd_per_mtok=2.0,
    price_out_usd_per_mtok=8.0,
    price_cached_in_usd_per_mtok=0.5,
    price_cache_write_usd_per_mtok=2.5,
    price_audio_in_usd_per_mtok=20.0,
    price_audio_out_usd_per_mtok=80.0,
)
HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "m-2026"}


def event(**fields: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(HEAD | fields, separators=(",", ":")).encode()


def said(text: str, index: int = 0, **more: Any) -> bytes:
    return event(choices=[{"index": index, "delta": {"content": text}, "finish_reason": None}], **more)


FINISH = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def last(shown: bytes, place: int = -1) -> dict[str, Any]:
    """An event of what a client was shown, counted from the end, [DONE] left out."""
    payloads = [json.loads(one[6:]) for one in shown.split(b"\n\n") if one.startswith(b"data: {")]
    found: dict[str, Any] = payloads[place]
    return found


@pytest.mark.parametrize(
    ("given_usage", "read"),
    [
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 20, "audio_tokens": 10},
                "completion_tokens_details": {
                    "reasoning_tokens": 30,
                    "audio_tokens": 5,
                    "rejected_prediction_tokens": 9,
                },
            },
            Usage(100, 50, 40, 20, 0, 30, 10, 5),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}, Usage(9, 2, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 4}, Usage(9, 2, 4)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 3,
            },
            Usage(9, 2, 4, 3),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cache_creation_tokens": 3}},
            Usage(9, 2, 0, 3),
        ),
        # xAI and Gemini count reasoning beside the completion, and in the total.
        (
            {
                "prompt_tokens": 10120,
                "completion_tokens": 1499,
                "total_tokens": 14428,
                "completion_tokens_details": {"reasoning_tokens": 2809},
            },
            Usage(10120, 4308, reasoning_tokens=2809),
        ),
        ({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}, Usage(20, 603, reasoning_tokens=405)),
        # Cache tokens beside the prompt, as Anthropic counts.
        (
            {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 105, "cache_read_input_tokens": 100},
            Usage(103, 2, 100),
        ),
        ({"prompt_tokens": 9, "total_tokens": 12}, Usage(9, 3)),
        ({"completion_tokens": 3, "total_tokens": 12}, Usage(9, 3)),
        ({"prompt_tokens": 9}, Usage(9, 0)),
    ],
)
def test_every_spelling_is_read_into_one_counting(given_usage: dict[str, Any], read: Usage) -> None:
    found = read_usage(raw(given_usage))

    assert found == read


@pytest.mark.parametrize(
    "nothing", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": -1}, [], 3]
)
def test_what_tells_nothing_is_no_usage(nothing: Any) -> None:
    assert read_usage(raw(nothing)) is None


def test_every_unit_is_priced() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=True)
    details = {"cached_tokens": 10, "cache_write_tokens": 20, "audio_tokens": 30}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "prompt_tokens_details": details}

    body = {"choices": [], "usage": usage | {"completion_tokens_details": {"audio_tokens": 5}}}
    shown = json.loads(meter.whole(json.dumps(body).encode()))

    nanousd = 40 * 2000 + 10 * 500 + 20 * 2500 + 30 * 20_000 + 45 * 8000 + 5 * 80_000
    assert shown["usage"]["cost"] == nanousd / 1e9
    assert meter.running_cost_nanousd == meter.settle().cost_nanousd == nanousd


def test_the_price_is_that_of_the_requests_day() -> None:
    dated = ModelCard.model_validate(
        {
            "id": "m",
            "context_tokens": 10,
            "price_in_usd_per_mtok": 1,
            "price_out_usd_per_mtok": 1,
            "price": [{"since": "2026-12-01", "price_in_usd_per_mtok": 2}],
        }
    )
    body = b'{"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":1}}'
    before, after = (ChatMeter(dated, 5, wants_usage=False, at=at) for at in (1796083199.0, 1796083200.0))

    before.whole(body), after.whole(body)

    assert (before.settle().cost_nanousd, after.settle().cost_nanousd) == (101_000, 201_000)


def test_the_upstreams_own_cost_is_kept_beside_ours_and_not_believed() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)

    shown = json.loads(meter.whole(b'{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":1,"cost":0.5}}'))

    assert shown["usage"] | {"cost": 0.000028, "upstream_cost": 0.5} == shown["usage"]


def test_an_answer_with_an_empty_usage_is_estimated_from_all_its_text() -> None:
    call = {"function": {"name": "look_up", "arguments": json.dumps({"city": "Paris", "unit": "celsius"})}}
    message = {"content": None, "reasoning_content": "Let me look that up first.", "tool_calls": [call]}
    body = {"model": "m-2026", "choices": [{"index": 0, "message": message}], "usage": {"prompt_tokens": 0}}
    meter = ChatMeter(CARD, 5, wants_usage=False)

    shown = json.loads(meter.whole(json.dumps(body).encode()))["usage"]

    assert shown["estimated"] is True
    assert shown["prompt_tokens"] == 5
    assert 17 <= shown["completion_tokens"] <= 28  # o200k counts 22


def test_usage_that_comes_before_the_finish_is_not_lost() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)
    usage = event(choices=[], usage={"prompt_tokens": 10, "completion_tokens": 3})

    shown = b"".join(map(meter.stream, (said("hi"), usage, FINISH, DONE)))

    assert shown == said("hi") + FINISH + DONE
    assert (meter.settle().output_tokens, meter.settle().estimated) == (3, False)


def test_of_usage_in_every_chunk_the_last_counts_and_all_is_hidden() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)
    chunks = [said("x", usage={"prompt_tokens": 10, "completion_tokens": count}) for count in range(1, 6)]

    shown = b"".join(meter.stream(chunk) for chunk in (*chunks, FINISH, DONE))

    assert b"usage" not in shown
    assert shown.count(b'"content":"x"') == 5
    assert (meter.settle().output_tokens, meter.settle().estimated) == (5, False)


def test_a_stream_broken_off_after_its_last_usage_is_estimated_on_from_there() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)
    meter.stream(said("x", usage={"prompt_tokens": 10, "completion_tokens": 1}))
    for _ in range(20):
        meter.stream(said(" word"))

    usage = meter.settle()

    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (10, 21, True)


def test_a_client_that_asked_gets_usage_also_from_an_upstream_that_tells_none() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=True)
    chunk = said("hi", usage=None)

    shown = b"".join(map(meter.stream, (chunk, FINISH, DONE)))

    assert shown.startswith(chunk + FINISH)
    assert shown.endswith(DONE)
    told = last(shown)
    assert told | HEAD | {"choices": []} == told
    assert told["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 1,
        "total_tokens": 6,
        "estimated": True,
        "cost": 0.000018,
    }


def test_it_gets_usage_too_where_the_end_mark_is_missing() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=True)
    meter.stream(said("hi") + FINISH)

    owed = meter.end_of_stream()

    assert last(owed)["usage"]["estimated"] is True
    assert owed.endswith(DONE)


@pytest.mark.parametrize(
    "end",
    [
        b',"usage":null}',
        b',"usage":null,"obfuscation":"x9","o":""}',
        b',"usage": null}',
        b',"usage":null,"n":{"usage":null}}',
    ],
)
def test_null_usage_is_hidden_byte_for_byte_wherever_it_stands(end: bytes) -> None:
    chunk = b'data: {"id":"c","x": 1.50,"choices":[{"delta":{"content":",\\"usage\\":null}"}}]' + end + b"\n\n"

    shown = ChatMeter(CARD, 5, wants_usage=False).stream(chunk * 2)

    kept = json.loads(end.replace(b",", b"{", 1)) | {"id": "c", "x": 1.5}
    del kept["usage"]
    assert {name: value for name, value in last(shown).items() if name != "choices"} == kept
    assert b'"choices":[{"delta":{"content":",\\"usage\\":null}"}}]' in shown
    assert ChatMeter(CARD, 5, wants_usage=True).stream(chunk) == chunk


def test_a_cut_stream_ends_as_one_that_met_its_length() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=True)
    meter.stream(said("some words"))

    shown = meter.cut()

    end, usage = last(shown, 0), last(shown)
    assert end == HEAD | {
        "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}],
        "fingerpost": {"budget_exhausted": True},
    }
    assert usage["usage"]["cost"] == meter.settle().cost_nanousd / 1e9
    assert shown.endswith(DONE)
    assert (meter.done, meter.finish_reason, meter.cut()) == (True, "length", b"")


def test_every_choice_that_is_open_is_ended_by_a_cut() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)
    meter.stream(said("a") + said("b", 1) + said("c", 2) + FINISH)

    shown = meter.cut()

    assert [choice["index"] for choice in last(shown)["choices"]] == [1, 2]
    assert b'"usage"' not in shown


def test_a_cut_counts_what_was_said_since_the_upstream_last_told() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=True)
    meter.stream(said("x", usage={"prompt_tokens": 10, "completion_tokens": 1}))
    meter.stream(said(" and so on and so forth, until the money was gone"))

    usage = last(meter.cut())["usage"]

    assert (usage["prompt_tokens"], usage["estimated"]) == (10, True)
    assert usage["completion_tokens"] > 8


def test_an_answer_that_has_finished_is_not_cut_any_more() -> None:
    meter = ChatMeter(CARD, 5, wants_usage=False)
    meter.stream(said("a") + FINISH)

    assert (meter.cut(), meter.finish_reason) == (DONE, "stop")


@given(
    st.lists(st.text(max_size=30), max_size=30),
    st.booleans(),
    st.sampled_from(("never", "end", "always")),
    st.lists(st.integers(1, 6), min_size=1),
)
def test_however_a_stream_is_cut_into_frames_clients_and_ledger_see_the_same(
    texts: list[str], wants: bool, told: str, sizes: list[int]
) -> None:
    always: list[dict[str, Any]] = [
        {"usage": {"prompt_tokens": 9, "completion_tokens": n + 1}} if told == "always" else {} for n in range(30)
    ]
    events = [said(text, **always[place]) for place, text in enumerate(texts)] + [FINISH]
    if told == "end":
        events.append(event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 40}))
    events.append(DONE)
    one, other = ChatMeter(CARD, 5, wants), ChatMeter(CARD, 5, wants)

    apart = b"".join(map(one.stream, events))
    frames: list[bytes] = []
    place = 0
    while place < len(events):
        size = sizes[len(frames) % len(sizes)]
        frames.append(b"".join(events[place : place + size]))
        place += size
    together = b"".join(map(other.stream, frames))

    assert apart == together
    assert one.settle() == other.settle()
    chunks = [json.loads(one[6:]) for one in apart.split(b"\n\n") if one.startswith(b"data: {")]
    assert any("usage" in chunk for chunk in chunks) == wants
    assert apart.endswith(DONE)
    said_choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(texts) == "".join(choice["delta"].get("content", "") for choice in said_choices)


def test_embeddings_are_priced_by_their_input_alone() -> None:
    told, untold = EmbeddingsMeter(CARD, 7), EmbeddingsMeter(CARD, 7)

    shown = json.loads(told.whole(b'{"data":[],"usage":{"prompt_tokens":10,"total_tokens":10}}'))
    untold.whole(b'{"data":[]}')

    assert (shown["usage"]["cost"], told.settle().output_tokens) == (0.00002, 0)
    assert (untold.settle().input_tokens, untold.settle().estimated) == (7, True)
    with pytest.raises(UpstreamBroken):
        EmbeddingsMeter(CARD, 7).whole(b'{"choices":[]}')


def test_meters_are_found_by_dialect() -> None:
    assert meter_class("chat") is ChatMeter
    for unknown in ("base", "nothing", "../chat"):
        with pytest.raises(ValueError, match="no meter"):
            meter_class(unknown)
