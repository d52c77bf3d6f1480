"""The worker: one thread, shared passes, bounded, and honest when the model is not there."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_runtime.embedders.errors import (
    EmbedderBusy,
    EmbedderClosed,
    EmbedderFailed,
)
from local_runtime.embedders.hashing import HashingEmbedder
from local_runtime.embedders.worker import EmbeddingWorker
from tests.unit.local_runtime.embedders.fake_embedder import PATIENCE_S, FakeEmbedder


@pytest.fixture
def model() -> FakeEmbedder:
    return FakeEmbedder()


@pytest.fixture
async def worker(model: FakeEmbedder) -> AsyncIterator[EmbeddingWorker]:
    worker = EmbeddingWorker(lambda: model, max_batch=8, max_waiting=10, cache_size=3)
    yield worker
    model.may_go_on.set()
    await worker.close()


async def occupied(worker: EmbeddingWorker, model: FakeEmbedder, text: str = "first") -> asyncio.Task[object]:
    """A caller whose text is in the model, which holds still until `may_go_on` is set."""
    model.may_go_on.clear()
    caller = asyncio.create_task(worker.embed([text]))
    assert await asyncio.to_thread(model.entered.acquire, timeout=PATIENCE_S)
    return caller


async def asking(worker: EmbeddingWorker, *texts: str) -> list[asyncio.Task[object]]:
    """One caller for each text, each already waiting."""
    callers: list[asyncio.Task[object]] = [asyncio.create_task(worker.embed([text])) for text in texts]
    await asyncio.sleep(0)
    return callers


async def test_vectors_come_in_the_order_of_the_texts(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    vectors = await worker.embed(["b", "a", "b", "\ud800"])

    np.testing.assert_array_equal(vectors, np.stack([model.vector(text) for text in ("b", "a", "b", "\ud800")]))
    assert model.calls == [["b", "a", "\ud800"]]


async def test_warming_says_what_the_model_is_without_running_it(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    facts = await worker.warm()

    assert (facts.id, facts.dimensions, facts.max_tokens) == (model.id, 4, 8)
    assert model.calls == []
    assert worker.stats().batches == 0


async def test_no_texts_give_an_empty_matrix_of_the_right_width(worker: EmbeddingWorker) -> None:
    assert (await worker.embed([])).shape == (0, 4)


async def test_all_that_waits_shares_one_pass(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    first = await occupied(worker, model)
    others = await asking(worker, "a", "b", "c")

    model.may_go_on.set()
    await asyncio.gather(first, *others)

    assert model.calls == [["first"], ["a", "b", "c"]]
    assert worker.stats().largest_batch == 3


async def test_a_pass_takes_no_more_than_the_largest_batch(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    first = await occupied(worker, model)
    others = await asking(worker, *"abcdefghij")

    model.may_go_on.set()
    await asyncio.gather(first, *others)

    assert [len(call) for call in model.calls] == [1, 8, 2]


async def test_one_text_asked_by_many_at_once_is_embedded_once(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    first = await occupied(worker, model)
    others = await asking(worker, "same", "same", "first", "same")

    model.may_go_on.set()
    await asyncio.gather(first, *others)

    assert model.calls == [["first"], ["same"]]
    assert worker.stats().shared == 3


async def test_a_repeated_text_is_free(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    once = await worker.embed(["again"])
    once[:] = 0  # what a caller does to its copy is its own affair

    again = await worker.embed(["again"])

    np.testing.assert_array_equal(again[0], model.vector("again"))
    assert model.calls == [["again"]]
    assert worker.stats().from_cache == 1


async def test_the_text_unused_for_longest_is_forgotten(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    for text in ("a", "b", "c", "a", "d"):
        await worker.embed([text])

    await worker.embed(["a", "b"])

    assert model.calls == [["a"], ["b"], ["c"], ["d"], ["b"]]
    assert worker.stats().cached == 3


async def test_a_full_queue_refuses_the_whole_call_and_keeps_none_of_it(
    worker: EmbeddingWorker, model: FakeEmbedder
) -> None:
    first = await occupied(worker, model)
    others = await asking(worker, *"abcdefgh")

    with pytest.raises(EmbedderBusy):
        await worker.embed(["x", "y", "z"])

    assert worker.stats().waiting == 8
    assert worker.stats().refused == 3
    model.may_go_on.set()
    await asyncio.gather(first, *others, worker.embed(["x", "y"]))


async def test_a_list_longer_than_the_queue_goes_through_in_parts(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    texts = [str(number) for number in range(50)]

    vectors = await worker.embed(texts)

    np.testing.assert_array_equal(vectors, np.stack([model.vector(text) for text in texts]))
    assert worker.stats().largest_batch == 8


async def test_a_long_list_does_not_keep_others_waiting_for_all_of_it(
    worker: EmbeddingWorker, model: FakeEmbedder
) -> None:
    first = await occupied(worker, model)
    long = asyncio.create_task(worker.embed([str(number) for number in range(40)]))
    await asyncio.sleep(0)
    (other,) = await asking(worker, "other")

    model.may_go_on.set()
    await other

    assert not long.done()
    await asyncio.gather(first, long)


async def test_a_caller_that_leaves_the_queue_takes_its_text_along(
    worker: EmbeddingWorker, model: FakeEmbedder
) -> None:
    first = await occupied(worker, model)
    gone, stays, also_stays = await asking(worker, "gone", "shared", "shared")

    gone.cancel()
    stays.cancel()
    await asyncio.wait([gone, stays])
    model.may_go_on.set()
    await asyncio.gather(first, also_stays)

    assert model.calls == [["first"], ["shared"]]


async def test_a_caller_that_leaves_mid_pass_disturbs_nobody(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    first = await occupied(worker, model)
    (other,) = await asking(worker, "other")

    first.cancel()
    await asyncio.wait([first])
    model.may_go_on.set()
    await other
    await worker.embed(["first"])

    assert model.calls == [["first"], ["other"]]  # its vector had been computed, and was kept


async def test_an_error_that_nobody_waits_for_is_not_logged(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    caller = await occupied(worker, model, "nan")

    caller.cancel()
    await asyncio.wait([caller])
    del caller
    model.may_go_on.set()
    await worker.embed(["other"])
    gc.collect()

    assert worker.stats().failed == 1
    assert complaints == []


async def test_numbers_that_are_not_finite_fail_only_their_own_text(
    worker: EmbeddingWorker, model: FakeEmbedder
) -> None:
    first = await occupied(worker, model)
    bad, good = await asking(worker, "nan", "good")
    model.may_go_on.set()

    outcomes = await asyncio.gather(first, bad, good, return_exceptions=True)

    assert isinstance(outcomes[1], EmbedderFailed)
    np.testing.assert_array_equal(np.asarray(outcomes[2])[0], model.vector("good"))


async def test_a_failed_text_is_not_remembered(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    for _ in range(2):
        with pytest.raises(EmbedderFailed, match="not finite"):
            await worker.embed(["nan"])

    assert model.calls == [["nan"], ["nan"]]
    assert worker.stats().cached == 0


async def test_a_text_that_makes_the_model_raise_does_not_fail_its_batch(
    worker: EmbeddingWorker, model: FakeEmbedder
) -> None:
    first = await occupied(worker, model)
    bad, good = await asking(worker, "raise", "good")
    model.may_go_on.set()

    outcomes = await asyncio.gather(first, bad, good, return_exceptions=True)

    assert isinstance(outcomes[1], EmbedderFailed)
    assert "told to raise" in str(outcomes[1])
    np.testing.assert_array_equal(np.asarray(outcomes[2])[0], model.vector("good"))


async def test_an_answer_of_the_wrong_shape_is_an_error(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    await worker.warm()
    model.dimensions = 5

    with pytest.raises(EmbedderFailed, match="shape"):
        await worker.embed(["text"])


async def test_closing_fails_what_waits_and_delivers_what_runs(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    first = await occupied(worker, model)
    (waiting,) = await asking(worker, "waiting")

    asyncio.get_running_loop().call_later(0.02, model.may_go_on.set)
    await worker.close()

    assert model.may_go_on.is_set()  # it did wait for the pass in hand
    np.testing.assert_array_equal(np.asarray(await first)[0], model.vector("first"))
    with pytest.raises(EmbedderClosed):
        await waiting
    assert model.calls == [["first"]]


async def test_a_closed_worker_refuses_even_what_it_knows(model: FakeEmbedder) -> None:
    worker = EmbeddingWorker(lambda: model)
    await worker.embed(["known"])

    await worker.close()

    with pytest.raises(EmbedderClosed):
        await worker.embed(["known"])


async def test_closing_ends_the_thread_and_may_be_repeated(model: FakeEmbedder) -> None:
    before = threads()
    worker = EmbeddingWorker(lambda: model)
    await worker.embed(["text"])
    (thread,) = (thread for thread in threads() - before if thread.name == "embedder")

    await worker.close()
    await worker.close()

    assert not thread.is_alive()
    assert threads() <= before


def threads() -> set[threading.Thread]:
    """All that run, but for those of asyncio's own pool, which has as many as it likes."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


@given(st.lists(st.lists(st.text(max_size=3), max_size=12), max_size=6), st.integers(1, 5), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_many_callers_each_get_their_own_vectors(calls: list[list[str]], max_batch: int, cache_size: int) -> None:
    async def ask() -> list[object]:
        worker = EmbeddingWorker(FakeEmbedder, max_batch=max_batch, cache_size=cache_size)
        try:
            return await asyncio.gather(*(worker.embed(texts) for texts in calls))
        finally:
            await worker.close()

    for texts, vectors in zip(calls, asyncio.run(ask()), strict=True):
        wanted = [FakeEmbedder.vector(text) for text in texts]
        np.testing.assert_array_equal(np.asarray(vectors), np.asarray(wanted, np.float32).reshape(-1, 4))


@pytest.mark.parametrize("sizes", [{"max_batch": 0}, {"max_waiting": 0}, {"cache_size": -1}])
def test_sizes_that_make_no_sense_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        EmbeddingWorker(FakeEmbedder, **sizes)  # type: ignore[arg-type]


def test_another_event_loop_is_refused() -> None:
    worker = EmbeddingWorker(FakeEmbedder)
    asyncio.run(worker.embed(["text"]))

    with pytest.raises(RuntimeError, match="one event loop"):
        asyncio.run(worker.embed(["other"]))
    asyncio.run(worker.close())


async def test_a_cached_text_is_answered_while_the_queue_is_full(worker: EmbeddingWorker, model: FakeEmbedder) -> None:
    await worker.embed(["known"])
    model.entered.acquire()
    first = await occupied(worker, model)
    others = await asking(worker, *"abcdefghij")

    known = await worker.embed(["known"])

    np.testing.assert_array_equal(known[0], model.vector("known"))
    model.may_go_on.set()
    await asyncio.gather(first, *others)


async def test_tokens_are_counted_as_the_model_counts_them() -> None:
    worker = EmbeddingWorker(HashingEmbedder)

    counted = await worker.count_tokens(["one two", "three"])

    assert counted == sum(map(HashingEmbedder().count_tokens, ["one two", "three"]))
    await worker.close()
