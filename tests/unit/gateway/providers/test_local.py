"""The runtime in this process as a provider: what it is asked, what it says in OpenAI's dialect."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ContextTooLong, InvalidRequest, UnsupportedCapability, UpstreamUnavailable
from gateway.local import engine_fault
from gateway.providers.base import Target, TextEngine
from gateway.providers.local import LocalProvider
from gateway.wire.chat_request import parse_chat
from local_runtime import base as runtime
from local_runtime.decoding.grammar import SchemaError
from policies.catalogue import Endpoint, ModelCard
from tests.fakes import ScriptedEngine

TALK = (runtime.Delta("Hel", output_tokens=1), runtime.Delta("lo", output_tokens=2, finish_reason="stop"))


def target() -> Target:
    row = Endpoint(id="here", model="m", provider="local", wire_model="bundled:x")
    return Target(row, ModelCard(id="m", context_tokens=100, max_output_tokens=64), LocalProvider(fails, None))


def fails(source: str) -> TextEngine:
    raise OSError(f"no file {source}")


async def answer(engine: ScriptedEngine, **fields: Any) -> list[bytes]:
    body = {"model": "m", "messages": [{"role": "developer", "content": "x"}]} | fields
    reply = await LocalProvider(lambda _: engine, None).open(parse_chat(json.dumps(body).encode()), target())
    return [frame async for frame in reply.frames]


async def test_a_whole_answer_has_text_finish_and_usage() -> None:
    engine = ScriptedEngine(*TALK)

    whole = json.loads((await answer(engine))[0])

    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert engine.prompts[0][0]["role"] == "system"


async def test_a_stream_opens_with_the_role_and_ends_with_usage_and_mark() -> None:
    text = b"".join(await answer(ScriptedEngine(*TALK), stream=True, n=2)).decode()

    chunks = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]
    said = ["", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            said[choice["index"]] += choice["delta"].get("content", "")
    assert said == ["Hello", "Hello"]
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks[:2]] == ["assistant", "assistant"]
    assert chunks[-1]["usage"]["completion_tokens"] == 4
    assert text.endswith("data: [DONE]\n\n")


async def test_sampling_is_what_the_request_says() -> None:
    engine = ScriptedEngine(*TALK)

    await answer(engine, temperature=0, top_p=0.5, seed=3, n=2, stop="END", max_tokens=7, logit_bias={"5": -1})

    first, second = engine.samplings
    assert (first.temperature, first.top_p, first.stop, first.max_tokens) == (0, 0.5, ("END",), 7)
    assert (first.seed, second.seed) == (3, 4)
    assert dict(first.logit_bias) == {5: -1}


async def test_the_engine_is_told_who_may_share_what_it_computes() -> None:
    engine = ScriptedEngine(*TALK)
    request = parse_chat(json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode())

    await LocalProvider(lambda _: engine, None).open(replace(request, circle="key_1"), target())

    assert engine.circles == ["key_1"]


@pytest.mark.parametrize(("tier", "priority"), [(None, 0), ("auto", 0), ("priority", 0), ("flex", -1)])
async def test_who_has_time_stands_behind_others_and_nobody_before(tier: str | None, priority: int) -> None:
    engine = ScriptedEngine(*TALK)

    await answer(engine, **({"service_tier": tier} if tier else {}))

    assert engine.priorities == [priority]


@pytest.mark.parametrize("stream", [False, True])
async def test_every_answer_says_what_it_was_computed_with(stream: bool) -> None:
    frames = await answer(ScriptedEngine(*TALK), stream=stream)

    assert b'"system_fingerprint":"fp_scripted"' in b"".join(frames)


async def test_how_long_a_call_would_wait_is_known_once_the_model_is_loaded() -> None:
    engine = ScriptedEngine(*TALK)
    engine.waits_s = 1.5
    provider = LocalProvider(lambda _: engine, None)

    before = provider.wait_ms("bundled:m")
    await provider.engine("bundled:m")

    assert (before, provider.wait_ms("bundled:m"), provider.wait_ms("other")) == (0, 1500, 0)
    assert provider.gauges()["bundled:m/wait_s_most"] == 1.5
    assert provider.gauges()["bundled:m/waiting"] == 2


async def test_a_silent_request_is_bounded_by_the_card() -> None:
    engine = ScriptedEngine(*TALK)

    await answer(engine)

    assert engine.samplings[0].max_tokens == 64
    assert engine.samplings[0].seed is None


async def test_leaving_a_stream_stops_every_generation() -> None:
    engine = ScriptedEngine(*TALK)
    body = b'{"model":"m","stream":true,"n":3,"messages":[{"role":"user","content":"x"}]}'
    reply = await LocalProvider(lambda _: engine, None).open(parse_chat(body), target())
    await anext(aiter(reply.frames))

    await reply.frames.aclose()

    assert engine.closed == 3


@pytest.mark.parametrize(
    ("fields", "param"), [({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"1": 1000}}, "logit_bias")]
)
async def test_what_no_model_can_do_is_the_requests_fault(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await answer(ScriptedEngine(*TALK), **fields)

    assert not isinstance(caught.value, UnsupportedCapability)
    assert caught.value.param == param


async def test_what_only_this_model_cannot_do_leaves_room_for_another() -> None:
    with pytest.raises(UnsupportedCapability):
        await answer(ScriptedEngine(*TALK), n=99)


async def test_a_refusal_in_the_history_is_text() -> None:
    engine = ScriptedEngine(*TALK)
    said = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}

    await answer(engine, messages=[said, {"role": "user", "content": "why?"}])

    assert engine.prompts[0][0]["content"] == [{"type": "text", "text": "no"}]


def schema(of: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": of}}


@pytest.mark.parametrize(
    ("form", "asked"),
    [
        ({"type": "json_object"}, {"type": "object"}),
        (schema({"enum": ["ä", 1]}), {"enum": ["ä", 1]}),
    ],
)
async def test_every_choice_is_held_to_the_format_that_is_asked_for(
    form: dict[str, Any], asked: dict[str, Any]
) -> None:
    engine = ScriptedEngine(*TALK)

    await answer(engine, response_format=form, n=2)

    assert [json.loads(one) for one in engine.schemas] == [asked]
    assert len({id(one) for one in engine.grammars}) == 1 and engine.grammars[0] is not None


@pytest.mark.parametrize("form", [None, {"type": "text"}])
async def test_text_is_held_to_nothing(form: dict[str, Any] | None) -> None:
    engine = ScriptedEngine(*TALK)

    await answer(engine, **({} if form is None else {"response_format": form}))

    assert (engine.schemas, engine.grammars) == ([], [None])


@pytest.mark.parametrize("form", [schema(5), schema(None), {"type": "json_schema"}, {"type": "xml"}])
async def test_a_format_that_is_none_is_the_requests_fault(form: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="response_format"):
        await answer(ScriptedEngine(*TALK), response_format=form)


async def test_a_schema_that_can_not_be_enforced_says_why() -> None:
    engine = ScriptedEngine(*TALK)
    engine.schema_fault = SchemaError("Invalid type: nonsense")

    with pytest.raises(InvalidRequest, match="nonsense") as caught:
        await answer(engine, response_format=schema({"type": "nonsense"}))

    assert caught.value.param == "response_format.json_schema.schema"


async def test_without_the_library_a_format_is_for_another_model() -> None:
    engine = ScriptedEngine(*TALK)
    engine.schema_fault = ImportError("llguidance")

    with pytest.raises(UnsupportedCapability, match="pip install"):
        await answer(engine, response_format={"type": "json_object"})


async def test_too_long_a_prompt_says_so() -> None:
    with pytest.raises(ContextTooLong):
        await answer(ScriptedEngine())


async def test_weights_that_do_not_load_are_an_unavailable_endpoint_and_tried_again() -> None:
    loads = []

    def load(source: str) -> TextEngine:
        loads.append(source)
        if len(loads) == 1:
            raise OSError("disk is gone")
        return ScriptedEngine(*TALK)

    provider = LocalProvider(load, None)
    request = parse_chat(b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
    with pytest.raises(UpstreamUnavailable, match="disk is gone"):
        await provider.open(request, target())

    assert (await provider.open(request, target())).stream is False
    assert loads == ["bundled:x", "bundled:x"]


async def test_sources_that_differ_in_their_adapters_share_one_engine() -> None:
    engine, loaded = ScriptedEngine(*TALK), list[str]()

    def load(source: str) -> TextEngine:
        loaded.append(source)
        return engine

    provider = LocalProvider(load, None)
    for source in ("bundled:x", "bundled:x+lora:/a", "bundled:x+lora:/b*0.5", "bundled:x+lora:/a"):
        await provider.engine(source)

    assert loaded == ["bundled:x"]
    assert engine.adapters == ["+lora:/a", "+lora:/b*0.5"]
    engine.waits_s = 2.0
    assert provider.wait_ms("bundled:x+lora:/a") == 2000.0
    assert {name.split("/")[0] for name in provider.gauges()} == {"bundled:x"}


async def test_an_adapter_that_can_not_be_had_is_unavailable_and_the_base_answers_on() -> None:
    class Plain(ScriptedEngine):
        def adapted(self, adapters: str) -> Any:
            raise runtime.BadWeights("the tensor 'x' is missing")

    provider = LocalProvider(lambda _: Plain(*TALK), None)

    with pytest.raises(UpstreamUnavailable, match="'x' is missing"):
        await provider.engine("bundled:x+lora:/a")
    assert isinstance(await provider.engine("bundled:x"), Plain)


def test_a_row_whose_adapter_is_not_there_says_so_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()

    told = [engine_fault(f"{tmp_path / 'm.gguf'}{more}") for more in ("", f"+lora:{tmp_path}", "+lora:/no", "+lora:")]

    assert told[:2] == [None, None]
    assert "/no is no folder" in str(told[2])
    assert "names no adapter" in str(told[3])
