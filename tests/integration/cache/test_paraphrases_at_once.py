"""What certainly asks the same in other words waits for the first that asks, and never stands in anybody's way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tests.eventually import eventually
from tests.integration.cache.stage import Heard, Stage

WAYS = [
    "How do I activate a new card?",
    "How can I activate a new card?",
    "How could I activate a new card?",
    "How do I activate a new card",
    "How would I activate a new card?",
    "how can i activate a new card?",
]
_NUMBERS = count()
Ask = Callable[[str], dict[str, Any]]


@pytest.fixture
def alike() -> Ask:
    """The fields of a request that asks it; what one test asks no other one is answered."""
    namespace = f"paraphrases-{next(_NUMBERS)}"

    def fields(text: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": text}]
        return {"model": "auto:alike", "messages": messages, "cache": {"namespace": namespace}}

    return fields


async def waits(stage: Stage, *asked: dict[str, Any]) -> list[asyncio.Task[Heard]]:
    """Who asks these, once they wait for others."""
    before = await stage.count("waited_alike")
    asking = [stage.opens(**one) for one in asked]
    await eventually(lambda: stage.has("waited_alike", before + len(asked)))
    return asking


async def test_a_paraphrase_comes_along_as_what_it_is(stage: Stage, alike: Ask) -> None:
    leader = await stage.led("one ", **alike(WAYS[0]))
    (asking,) = await waits(stage, alike(WAYS[1]))

    stage.prompter.say("two")

    follower = await asking
    stage.prompter.finish()
    assert follower.told == "hit-semantic" and await follower.text() == await leader.text() == "one two"
    assert 0.9 < float(follower.reply.headers["x-fingerpost-cache-score"]) < 1
    logged = await stage.logged(follower)
    assert (logged["cache_status"], logged["cost_nanousd"], stage.calls) == ("hit-semantic", 0, 1)


async def test_who_wants_it_whole_gets_it_whole(stage: Stage, alike: Ask) -> None:
    leader = await stage.led("all of it", **alike(WAYS[0]))
    before = await stage.count("waited_alike")
    whole = asyncio.create_task(stage.whole(**alike(WAYS[1])))
    await eventually(lambda: stage.has("waited_alike", before + 1))

    stage.prompter.finish()

    assert (await whole).headers["x-fingerpost-cache"] == "hit-semantic" and await leader.text() == "all of it"
    assert (await whole).json()["choices"][0]["message"]["content"] == "all of it" and stage.calls == 1


@pytest.mark.parametrize(
    "other",
    [
        "How do I deactivate a new card?",
        "How do I literally activate a new card?",
        "How do I secretly activate a card?",
    ],
    ids=["opposite", "category exact", "category off"],
)
async def test_what_may_not_be_answered_by_likeness_does_not_wait(stage: Stage, alike: Ask, other: str) -> None:
    leader = await stage.led("this", **alike(WAYS[0]))

    asking = stage.opens(**alike(other))
    await stage.asked(2)
    stage.prompter.say("that")

    heard = await asking
    assert await heard.word() == "that" and await leader.word() == "this"


async def test_where_the_first_fails_one_paraphrase_asks_and_the_others_wait_for_that(stage: Stage, alike: Ask) -> None:
    first = stage.opens(**alike(WAYS[0]))
    await stage.asked()
    asking = await waits(stage, *map(alike, WAYS[1:5]))

    await stage.refuses(first)
    await stage.asked(2)
    await eventually(lambda: stage.has("asked_by_likeness", 1))
    stage.prompter.say("at last")
    heard = [await one for one in asking]
    stage.prompter.finish()

    assert [await one.text() for one in heard] == ["at last"] * 4 and stage.calls == 2
    assert Counter(one.told for one in heard) == {"miss": 1, "hit-semantic": 3}


async def test_what_has_ended_without_an_answer_is_not_waited_for(stage: Stage, alike: Ask) -> None:
    first = stage.opens(**alike(WAYS[0]))
    await stage.asked()
    await stage.refuses(first)

    second = stage.opens(**alike(WAYS[1]))
    await stage.asked(2)
    stage.prompter.say("new")

    assert (await second).told == "miss"


async def test_a_hundred_at_once_are_one_call(stage: Stage, alike: Ask) -> None:
    asking = [stage.opens(**alike(WAYS[number % len(WAYS)])) for number in range(100)]
    await stage.asked()
    stage.prompter.say("for ", "all")
    stage.prompter.finish()

    heard = await asyncio.gather(*asking)

    assert [await one.text() for one in heard] == ["for all"] * 100 and stage.calls == 1
    told = Counter(one.told for one in heard)
    assert told["miss"] == 1 and told["hit-semantic"] > 50
