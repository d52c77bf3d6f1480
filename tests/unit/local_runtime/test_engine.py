"""The engine as its callers see it, over scripted answers and over a tiny real model."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from local_runtime.base import (
    ContextTooLong,
    Delta,
    EngineBusy,
    EngineFailed,
    EngineStopped,
    Sampling,
    TemplateFailed,
    WeightsNotFound,
)
from local_runtime.engine import Engine, default_threads
from tests.eventually import comes_true, eventually
from tests.unit.local_runtime.scripted import Answer, ScriptedModel, scripted, spells
from tests.unit.local_runtime.tiny import save_tiny, save_tokenizer

GREEDY = Sampling(temperature=0)
PROMPT = [65]


def engine_for(model: ScriptedModel, *, max_batch: int = 2, max_waiting: int = 2, context: int = 64) -> Engine:
    return Engine(scripted(model, context), threads=1, max_batch=max_batch, max_waiting=max_waiting)


@pytest.fixture
def paced() -> Iterator[tuple[Engine, ScriptedModel]]:
    """An engine that answers "B" forever, one step whenever the test lets it go."""
    model = ScriptedModel(lambda seen: 66, paced=True)
    engine = engine_for(model)
    engine.start()
    yield engine, model
    model.let_go(10_000)
    engine.close()


async def read(stream: AsyncIterator[Delta]) -> list[Delta]:
    return [delta async for delta in stream]


async def answer(script: Answer, sampling: Sampling = GREEDY) -> list[Delta]:
    engine = engine_for(ScriptedModel(script))
    engine.start()
    try:
        return await read(engine.generate(PROMPT, sampling))
    finally:
        engine.close()


async def test_emoji_split_over_four_tokens_arrives_whole() -> None:
    deltas = await answer(spells("a\U0001f600\u4f60"))
    assert [delta.text for delta in deltas] == ["a", "\U0001f600", "\u4f60", ""]
    assert (deltas[-1].finish_reason, deltas[-1].output_tokens) == ("stop", 9)


async def test_a_stop_string_that_spans_tokens_leaks_nothing() -> None:
    deltas = await answer(spells("one <end> two"), Sampling(temperature=0, stop=("<end>",)))
    assert "".join(delta.text for delta in deltas) == "one "
    assert deltas[-1].finish_reason == "stop"


async def test_max_tokens_ends_with_length_and_flushes_what_was_held() -> None:
    deltas = await answer(spells("ab<en"), Sampling(temperature=0, stop=("<end>",), max_tokens=4))
    assert "".join(delta.text for delta in deltas) == "ab<e"
    assert deltas[-1].finish_reason == "length"


async def test_logprobs_name_the_token_its_bytes_and_its_rivals() -> None:
    deltas = await answer(spells("hi"), Sampling(temperature=0, logprobs=True, top_logprobs=2))
    first = deltas[0].logprobs[0]
    assert (first.token, first.token_bytes) == ("h", b"h")
    assert first.logprob == pytest.approx(0.0, abs=1e-9)
    assert [rival.token for rival in first.top] == ["h", "\x00"]
    assert first.top[1].logprob == pytest.approx(-30.0, abs=1e-6)


async def test_a_prompt_that_fills_the_context_is_refused_on_the_call_before_any_work() -> None:
    model = ScriptedModel(spells("x"))
    engine = engine_for(model, context=8)
    engine.start()
    with pytest.raises(ContextTooLong) as caught:
        engine.generate([65] * 8, GREEDY)
    engine.close()
    assert (caught.value.prompt_tokens, caught.value.limit) == (8, 8)
    assert (model.calls, engine.stats().waiting) == ([], 0)


@pytest.mark.parametrize(
    ("prompt", "sampling", "field"),
    [
        ([], GREEDY, "prompt"),
        ([258], GREEDY, "prompt"),
        ([-1], GREEDY, "prompt"),
        ([65], Sampling(logit_bias={258: 1.0}), "logit_bias"),
    ],
)
async def test_tokens_beyond_the_vocabulary_are_refused(prompt: list[int], sampling: Sampling, field: str) -> None:
    with pytest.raises(ValueError, match=field):
        engine_for(ScriptedModel(spells("x"))).generate(prompt, sampling)


async def test_closing_the_iterator_frees_the_slot_within_one_step(paced: tuple[Engine, ScriptedModel]) -> None:
    engine, model = paced
    leaving, staying = engine.generate(PROMPT, GREEDY), engine.generate(PROMPT, GREEDY)
    await asyncio.to_thread(model.entered.acquire)
    model.let_go()
    await anext(leaving)
    await leaving.aclose()
    model.let_go(2)
    for _ in range(3):
        await anext(staying)
    assert [len(call) for call in model.calls][-1] == 1
    assert engine.stats().running == 1
    with pytest.raises(StopAsyncIteration):
        await anext(leaving)


async def test_a_cancelled_task_gives_its_work_up_too(paced: tuple[Engine, ScriptedModel]) -> None:
    engine, model = paced
    task = asyncio.create_task(read(engine.generate(PROMPT, GREEDY)))
    await asyncio.to_thread(model.entered.acquire)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.stats().waiting == 0
    staying = engine.generate(PROMPT, GREEDY)
    model.let_go(2)
    await anext(staying)
    assert len(model.calls[-1]) == 1


async def test_a_forgotten_iterator_gives_its_work_up_too(paced: tuple[Engine, ScriptedModel]) -> None:
    engine, model = paced
    forgotten = engine.generate(PROMPT, GREEDY)
    await asyncio.to_thread(model.entered.acquire)
    del forgotten
    gc.collect()
    model.let_go()
    await asyncio.to_thread(wait_until_idle, engine)


def wait_until_idle(engine: Engine) -> None:
    assert comes_true(lambda: not engine.stats().running, every_s=0.002)


async def test_more_than_slots_and_queue_hold_is_busy(paced: tuple[Engine, ScriptedModel]) -> None:
    engine, _ = paced
    held = [engine.generate(PROMPT, GREEDY) for _ in range(4)]
    with pytest.raises(EngineBusy):
        engine.generate(PROMPT, GREEDY)
    await held.pop().aclose()
    held.append(engine.generate(PROMPT, GREEDY))
    assert engine.stats().running + engine.stats().waiting == 4


async def test_closing_the_engine_ends_running_and_waiting_answers(paced: tuple[Engine, ScriptedModel]) -> None:
    engine, model = paced
    streams = [engine.generate(PROMPT, GREEDY) for _ in range(4)]
    await asyncio.to_thread(model.entered.acquire)
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    await eventually(lambda: closes(engine))  # steps that are let go before would be used up by answers
    model.let_go(50)
    await closing
    for stream in streams:
        with pytest.raises(EngineStopped):
            await read(stream)
    engine.close()
    with pytest.raises(EngineStopped):
        engine.generate(PROMPT, GREEDY)


def closes(engine: Engine) -> bool:
    """Whether a full engine has been told to close."""
    try:
        engine.generate(PROMPT, GREEDY)
    except EngineBusy:
        return False
    except EngineStopped:
        return True
    raise AssertionError("the engine was not full")


async def test_an_engine_that_was_never_started_says_so() -> None:
    with pytest.raises(EngineStopped):
        engine_for(ScriptedModel(spells("x"))).generate(PROMPT, GREEDY)


async def test_a_failed_step_ends_its_sequences_and_the_engine_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fails_on_bang(seen: list[int]) -> int:
        if seen[0] == ord("!"):
            raise RuntimeError("out of luck")
        return spells("fine")(seen)

    engine = engine_for(ScriptedModel(fails_on_bang))
    engine.start()
    with pytest.raises(EngineFailed, match="out of luck"):
        await read(engine.generate([ord("!")], GREEDY))
    again = await read(engine.generate(PROMPT, GREEDY))
    engine.close()
    assert "".join(delta.text for delta in again) == "fine"
    assert "out of luck" in caplog.text


async def test_an_idle_engine_uses_no_processor_time() -> None:
    engine = engine_for(ScriptedModel(spells("x")))
    engine.start()
    await read(engine.generate(PROMPT, GREEDY))
    before = time.process_time()
    await asyncio.sleep(0.3)
    spent = time.process_time() - before
    engine.close()
    assert spent < 0.1


def test_one_engine_serves_several_event_loops() -> None:
    engine = engine_for(ScriptedModel(spells("x")))
    engine.start()
    texts = [asyncio.run(_text(engine)) for _ in range(3)]
    engine.close()
    assert texts == ["x", "x", "x"]


async def _text(engine: Engine) -> str:
    return "".join(delta.text for delta in await read(engine.generate(PROMPT, GREEDY)))


async def test_steps_and_tokens_are_counted() -> None:
    engine = engine_for(ScriptedModel(spells("four")))
    engine.start()
    await read(engine.generate(PROMPT, GREEDY))
    stats = engine.stats()
    engine.close()
    assert (stats.running, stats.waiting, stats.steps, stats.tokens_out) == (0, 0, 5, 5)


def test_half_of_the_cores_compute() -> None:
    assert default_threads() >= 1


def test_unknown_sources_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match="smollm2"):
        Engine.load("bundled:nothing")
    with pytest.raises(WeightsNotFound, match="no such file"):
        Engine.load(str(tmp_path / "absent.gguf"))
    with pytest.raises(ValueError, match="max_batch"):
        Engine.load(str(tmp_path), max_batch=0)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("tiny-model")
    save_tiny("llama", folder)
    save_tokenizer(folder)
    engine = Engine.load(str(folder), dtype="float32", threads=1, max_batch=4)
    engine.start()
    yield engine
    engine.close()


async def test_a_folder_is_served_with_its_own_template(tiny: Engine) -> None:
    prompt = tiny.encode_chat([{"role": "user", "content": "hi"}])
    assert prompt[:2] == [256, ord("u")]
    assert (tiny.context_tokens, tiny.model_name.startswith("tiny-model")) == (128, True)
    assert tiny.count_tokens("h\u00e9") == 3
    deltas = await read(tiny.generate(prompt, Sampling(temperature=0, max_tokens=5)))
    assert deltas[-1].output_tokens <= 5


async def test_a_seed_gives_the_same_text_alone_and_in_a_crowd(tiny: Engine) -> None:
    async def text(seed: int | None, prompt: str) -> bytes:
        stream = tiny.generate(tiny.encode(prompt), Sampling(seed=seed, max_tokens=30, logprobs=True))
        return b"".join(name.token_bytes for delta in await read(stream) for name in delta.logprobs)

    alone = await text(11, "the same prompt")
    crowd = await asyncio.gather(
        text(11, "the same prompt"), text(None, "others"), text(12, "the same prompt"), text(3, "x" * 70)
    )
    assert crowd[0] == alone
    assert crowd[2] != alone


async def test_a_model_without_a_template_refuses_chats(tmp_path: Path) -> None:
    save_tiny("llama", tmp_path)
    save_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    engine = Engine.load(str(tmp_path), dtype="float32", max_batch=1)
    with pytest.raises(TemplateFailed, match="no chat template"):
        engine.encode_chat([{"role": "user", "content": "hi"}])
