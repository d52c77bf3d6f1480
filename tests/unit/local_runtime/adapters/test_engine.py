"""Adapters by request through a running engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from local_runtime.base import Delta, Sampling, UnsupportedModel
from local_runtime.engine import Engine
from tests.unit.local_runtime.adapters.made import save_adapter
from tests.unit.local_runtime.scripted import ScriptedModel, scripted
from tests.unit.local_runtime.tiny import save_tiny, save_tokenizer

GREEDY = Sampling(temperature=0, max_tokens=12, logprobs=True)
PROMPT = [int(token) for token in np.random.default_rng(3).integers(0, 256, 70)]
Said = list[tuple[bytes, float]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    theirs = save_tiny("llama", tmp_path / "base")
    save_tokenizer(tmp_path / "base")
    for seed in (1, 2):
        save_adapter(theirs, tmp_path / str(seed), seed)
    return tmp_path


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    engine = Engine.load(str(folder / "base"), dtype="float32", threads=1)
    engine.start()
    yield engine
    engine.close()


async def told(stream: AsyncIterator[Delta]) -> Said:
    return [(one.token_bytes, round(one.logprob, 3)) async for delta in stream for one in delta.logprobs]


async def test_running_requests_go_on_while_an_adapter_comes_and_each_answers_as_alone(
    engine: Engine, folder: Path
) -> None:
    alone = await told(engine.generate(PROMPT, GREEDY))
    under_way = engine.generate(PROMPT, GREEDY)

    one = engine.adapted(f"+lora:{folder / '1'}")
    two = engine.adapted(f"+lora:{folder / '2'}")
    answers = await asyncio.gather(
        told(under_way), *(told(face.generate(PROMPT, GREEDY)) for face in (one, two, engine, one))
    )

    assert answers[0] == answers[3] == alone
    assert answers[1] == answers[4] == await told(one.generate(PROMPT, GREEDY))
    assert answers[2] == await told(two.generate(PROMPT, GREEDY))
    assert len({tuple(answer) for answer in answers}) == 3


async def test_what_a_prompt_begins_with_is_found_by_the_same_adapter_only(engine: Engine, folder: Path) -> None:
    one, two = (engine.adapted(f"+lora:{folder / name}") for name in ("1", "2"))
    await told(engine.generate(PROMPT, GREEDY))
    await told(one.generate(PROMPT, GREEDY))
    assert engine.stats().found_tokens == 0

    await told(two.generate(PROMPT, GREEDY))
    assert engine.stats().found_tokens == 0

    await told(one.generate(PROMPT, GREEDY))
    assert engine.stats().found_tokens == 64


def test_fingerprints_tell_adapters_and_their_weights_apart(engine: Engine, folder: Path) -> None:
    faces = [
        engine.adapted(f"+lora:{folder / '1'}{weight}") for weight in ("", "*0.5", "", "+lora:" + str(folder / "2"))
    ]

    prints = [face.fingerprint for face in faces]

    assert prints[0] == prints[2]
    assert len({engine.fingerprint, *prints}) == 4
    assert all(one.startswith("fp_") for one in prints)


async def test_a_face_shares_the_engine_and_does_not_close_it(engine: Engine, folder: Path) -> None:
    face = engine.adapted(f"+lora:{folder / '1'}")
    face.close()

    assert face.context_tokens == engine.context_tokens
    assert await told(face.generate(PROMPT, GREEDY))


def test_a_model_that_takes_no_adapters_says_so() -> None:
    engine = Engine(scripted(ScriptedModel(lambda seen: 66), 64), threads=1, max_batch=1, max_waiting=1)

    with pytest.raises(UnsupportedModel, match="no adapters"):
        engine.adapted("+lora:/nowhere")
