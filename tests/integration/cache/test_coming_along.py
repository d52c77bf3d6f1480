"""Streams of one answer for many: each hears it from the beginning as it comes, whoever leaves and however it ends."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from tests.eventually import eventually
from tests.integration.cache.stage import Stage
from tests.integration.tenants import Tenant, tenant

TAGS = "x-fingerpost-tags"


def bearer(key: str) -> dict[str, str]:
    """The header of a key's requests."""
    return {"Authorization": f"Bearer {key}"}


def another_key(team: Tenant) -> str:
    """A second one of a team."""
    body = {"name": "second", "team_id": team.team_id}
    made = httpx.post(f"{team.url}/admin/keys", json=body, headers=team.admin, timeout=20)
    return str(made.json()["key"])


async def test_followers_hear_each_word_as_it_comes_and_pay_nothing(stage: Stage) -> None:
    leader, *followers = await asyncio.gather(stage.led("one "), *[stage.opened() for _ in range(3)])
    assert [await one.word() for one in (leader, *followers)] == ["one "] * 4

    stage.prompter.say("two ")

    assert [await one.word() for one in (leader, *followers)] == ["two "] * 4
    stage.prompter.say("three")
    stage.prompter.finish()
    assert [await one.text() for one in (leader, *followers)] == ["three"] * 4 and stage.calls == 1
    first, *others = sorted((leader, *followers), key=lambda one: one.told, reverse=True)
    assert [first.told, *(one.told for one in others)] == ["miss", *["hit-exact"] * 3]
    made = await stage.logged(first)
    for one in others:
        logged = await stage.logged(one)
        assert (logged["cost_nanousd"], logged["saved_nanousd"]) == (0, made["cost_nanousd"])
        assert logged["cache_id"] == one.reply.headers["x-fingerpost-cache-id"] and logged["first_byte_ms"] is not None


async def test_the_answer_that_followers_heard_is_kept_under_the_id_that_they_were_told(stage: Stage) -> None:
    leader, follower = await stage.led("so"), await stage.followed()
    stage.prompter.finish()
    heard = await follower[0]
    await heard.rest(), await leader.rest()

    again = await stage.opened()

    assert again.told == "hit-exact" and await again.text() == "so"
    assert again.reply.headers["x-fingerpost-cache-id"] == heard.reply.headers["x-fingerpost-cache-id"]


@pytest.mark.parametrize("theirs", [True, False])
@pytest.mark.parametrize("mine", [True, False])
async def test_each_hears_the_usage_that_it_asks_for(stage: Stage, theirs: bool, mine: bool) -> None:
    leader = await stage.led("so", stream_options={"include_usage": theirs})
    (following,) = await stage.followed(stream_options={"include_usage": mine})
    stage.prompter.finish()

    *chunks, last = await (await following).rest()

    told = [json.loads(one)["usage"] for one in chunks if json.loads(one).get("usage")]
    cached = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10, "cost": 0, "cached": True}
    assert last == "[DONE]" and told == ([cached] if mine else [])
    theirs_told = [json.loads(one)["usage"] for one in (await leader.rest())[:-1] if "usage" in json.loads(one)]
    assert [one["cost"] > 0 for one in theirs_told if one] == ([True] if theirs else [])


async def test_who_comes_later_hears_what_was_said_before(stage: Stage) -> None:
    leader = await stage.led("one ", "two ")
    assert [await leader.word(), await leader.word()] == ["one ", "two "]
    following = await stage.followed()

    stage.prompter.say("three ")
    early = await following[0]
    late = await stage.opened()

    assert [await early.word() for _ in range(3)] == [await late.word() for _ in range(3)] == ["one ", "two ", "three "]
    stage.prompter.finish()
    assert [await one.text() for one in (leader, early, late)] == ["three ", "", ""] and stage.calls == 1


async def test_who_wants_a_whole_answer_waits_for_it(stage: Stage) -> None:
    leader = await stage.led("all ")
    before = await stage.count("waited")
    whole = asyncio.create_task(stage.whole())
    await eventually(lambda: stage.has("waited", before + 1))
    stage.prompter.say("of it")
    stage.prompter.finish()

    reply = await whole

    assert reply.json()["choices"][0]["message"]["content"] == await leader.text() == "all of it"
    assert reply.headers["x-fingerpost-cache"] == "hit-exact" and stage.calls == 1


async def test_where_the_first_leaves_the_others_hear_it_to_its_end_and_it_is_paid_and_kept(stage: Stage) -> None:
    leader, (following,) = await stage.led("one "), await stage.followed()
    stage.prompter.say("two ")
    follower = await following
    before, requests = await stage.count("heard_on"), await stage.requests()
    await leader.leave()
    await eventually(lambda: stage.has("heard_on", before + 1))

    stage.prompter.say("three")
    stage.prompter.finish()

    assert await follower.text() == "one two three"
    logged, part = await stage.logged(leader), await stage.asked()
    assert (logged["status"], logged["error_code"]) == (499, "client_disconnected")
    assert logged["output_tokens"] == 3 and logged["cost_nanousd"] > 0 and not part.gone
    assert await stage.requests() == requests + 2
    assert (await stage.opened()).told == "hit-exact" and stage.calls == 1


async def test_where_all_leave_the_upstream_is_left_too_and_nothing_is_kept(stage: Stage) -> None:
    leader, following = await stage.led("one "), await stage.followed(2)
    stage.prompter.say("two ")
    followers = [await one for one in following]

    for one in (leader, *followers):
        await one.leave()

    part = await stage.asked()
    await eventually(lambda: part.gone)
    assert [(await stage.logged(one))["status"] for one in (leader, *followers)] == [499] * 3
    again = stage.opens()
    await stage.asked(2)
    stage.prompter.say("new")
    assert (await again).told == "miss"


async def test_one_who_leaves_disturbs_nobody(stage: Stage) -> None:
    leader, following = await stage.led("one "), await stage.followed(2)
    stage.prompter.say("two ")
    hasty, patient = [await one for one in following]
    await hasty.leave()

    stage.prompter.say("three")
    stage.prompter.finish()

    assert await patient.text() == await leader.text() == "one two three"


async def test_a_stream_that_breaks_breaks_for_all_who_heard_of_it(stage: Stage) -> None:
    leader, following = await stage.led("one "), await stage.followed(2)
    stage.prompter.say("two ")
    followers = [await one for one in following]

    stage.prompter.break_off()

    for one in (leader, *followers):
        *_, last = await one.rest()
        assert json.loads(last)["error"]["code"] == "upstream_unavailable"
        assert (await stage.logged(one))["error_code"] == "upstream_unavailable"


async def test_where_a_stream_breaks_one_of_those_who_heard_nothing_asks_anew(stage: Stage) -> None:
    await stage.led("one ")
    before = await stage.count("waited")
    waiting = [asyncio.create_task(stage.whole()) for _ in range(3)]
    await eventually(lambda: stage.has("waited", before + 3))

    stage.prompter.break_off()
    await stage.asked(2)
    stage.prompter.finish()

    assert {one.json()["choices"][0]["message"]["content"] for one in await asyncio.gather(*waiting)} == {
        "whole answer"
    }
    assert stage.calls == 2


async def test_where_the_first_fails_before_a_word_another_leads_and_the_rest_come_along(stage: Stage) -> None:
    first = stage.opens()
    await stage.asked()
    following = await stage.followed(3)

    await stage.refuses(first)
    await stage.asked(2)
    stage.prompter.say("at last")

    heard = [await one for one in following]
    stage.prompter.finish()
    assert [await one.text() for one in heard] == ["at last"] * 3 and stage.calls == 2
    assert sorted(one.told for one in heard) == ["hit-exact", "hit-exact", "miss"]


@pytest.mark.parametrize("reason", ["content_filter", "length"])
async def test_what_is_not_whole_says_so_and_is_not_kept(stage: Stage, reason: str) -> None:
    leader, (following,) = await stage.led("one "), await stage.followed()
    stage.prompter.say("two ")
    follower = await following

    stage.prompter.finish(reason=reason)

    ends = [json.loads((await one.rest())[-2])["choices"][0]["finish_reason"] for one in (leader, follower)]
    assert ends == [reason, reason]
    again = stage.opens()
    await stage.asked(2)
    stage.prompter.say("new")
    assert (await again).told == "miss"


async def test_a_stream_that_a_hard_budget_bounds_is_heard_by_who_pays_from_the_same(stage: Stage) -> None:
    bounded = tenant(stage.served, name=f"bounded-{stage.question}", limit_usd=1.0)
    own, other = bearer(bounded.key), bearer(another_key(bounded))
    leader, (same,) = await stage.led("one ", headers=own), await stage.followed(headers=own)
    (waits,), (differs,) = await stage.followed(headers=other), await stage.followed(headers=own | {TAGS: "of-mine"})

    stage.prompter.say("two")
    stage.prompter.finish()

    heard = [await one for one in (same, waits, differs)]
    assert {one.told for one in heard} == {"hit-exact"} and await leader.text() == "one two"
    # What was kept is said anew, beginning with nothing.
    assert [[await one.word(), await one.word()] for one in heard] == [["one ", "two"], *[["", "one two"]] * 2]
    assert stage.calls == 1


async def test_an_answer_that_is_cut_where_a_budget_ends_says_so_to_all_and_is_not_kept(stage: Stage) -> None:
    poor = bearer(tenant(stage.served, name=f"poor-{stage.question}", limit_usd=0.0003).key)
    leader, (following,) = await stage.led("one ", headers=poor), await stage.followed(headers=poor)

    stage.prompter.say(*["word "] * 300)

    for one in (leader, await following):
        *_, cut, last = await one.rest()
        assert json.loads(cut)["choices"][0]["finish_reason"] == "length" and last == "[DONE]"
        assert json.loads(cut)["fingerpost"] == {"budget_exhausted": True}
        logged = await stage.logged(one)
        assert logged["budget_exhausted"] and (logged["cost_nanousd"] > 0) == (one is leader)
    again = await stage.opened(headers=poor)
    assert again.told == "miss"


async def test_other_dialects_come_along_in_their_own_words(stage: Stage) -> None:
    leader = await stage.led("one ")
    (message,) = await stage.followed(path="/v1/messages")
    (response,) = await stage.followed(path="/v1/responses", input=stage.question, max_output_tokens=50)

    stage.prompter.say("two ")
    heard = [await message, await response]
    stage.prompter.say("three")
    stage.prompter.finish()

    kinds = [[json.loads(event) for event in await one.rest()] for one in heard]
    deltas = [one["delta"]["text"] for one in kinds[0] if one["type"] == "content_block_delta"]
    assert deltas == ["one ", "two ", "three"] and kinds[0][-1]["type"] == "message_stop"
    said = [one["delta"] for one in kinds[1] if one["type"] == "response.output_text.delta"]
    assert "".join(said) == "one two three" and kinds[1][-1]["type"] == "response.completed"
    assert await leader.text() == "one two three" and stage.calls == 1


async def test_other_dialects_hear_a_broken_end_as_theirs(stage: Stage) -> None:
    await stage.led("one ")
    (message,) = await stage.followed(path="/v1/messages")
    stage.prompter.say("two ")
    heard = await message

    stage.prompter.break_off()

    last = json.loads((await heard.rest())[-1])
    assert last["type"] == "error" and last["error"]["type"] == "overloaded_error"


async def test_nobody_waits_for_another_longer_than_it_may(stage: Stage) -> None:
    leading = stage.opens()
    await stage.asked()

    hasty = await stage.whole(headers={"x-fingerpost-timeout": "0.1"})

    assert hasty.status_code == 504 and hasty.json()["error"]["code"] == "upstream_timeout"
    stage.prompter.say("late")
    assert await (await leading).word() == "late" and stage.calls == 1
