"""Requests that come at once: who asks, what the others wait for, and that waiting has one bound whatever it is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from gateway.cache.asked import Asked
from gateway.cache.asking import Asking, Question
from gateway.cache.base import StoreAway, Stored
from gateway.cache.broadcast import Broadcast, Seat
from gateway.cache.canonical import canonical
from gateway.cache.control import NO_CONTROL
from gateway.cache.eligibility import allowed_by_form
from gateway.cache.flights import Flights, Word
from gateway.cache.index import LikenessIndex
from gateway.cache.leases import Alone, HeldLease, Leases, Taken
from gateway.cache.parsed import Parsed
from gateway.cache.semantic import Candidate, Entry
from gateway.cache.together import Shared, Together
from gateway.errors import UpstreamBroken
from policies.schema import CacheMode, Policy
from tests.unit.gateway.cache.bodies import request

NOW = 1000.0
ANSWER = Stored("1", "key:k", "p", "x", "general", b"{}", "m", "e", NOW, NOW + 10)
POLICY = Policy.model_validate({"schema": 1, "name": "p", "cache": {"mode": "semantic"}})
TAKEN = Taken(3.0)


def asked(exact: str = "x", **more: Any) -> Asked:
    found = request("Is it so?")
    form = canonical(found)
    return Asked(found, POLICY, NO_CONTROL, "key:k", form, "p", exact, allowed_by_form(found, form), **more)


def question(exact: str, likeness: float) -> Question:
    """One whose cosine with that of likeness 1 is `likeness`; judged by that alone."""
    vector = np.array([likeness, (1 - likeness**2) ** 0.5], dtype=np.float32)
    return Question("key:k", "p", exact, exact, "general", "chat", vector, "e/1")


def judge(_query: Entry, _candidates: Sequence[Candidate], cosines: Any) -> Any:
    return cosines.astype(np.float64)


def needed(_topic: str) -> float | None:
    return 0.9


def an_asking() -> Asking:
    index = LikenessIndex(judge, lambda _text: cast(Parsed, None), clock=lambda: NOW)
    return Asking(index, lambda: NOW)


class Elsewhere:
    """Another worker's part, told in advance; notes how often it was asked for and what ended."""

    def __init__(self, *told: object) -> None:
        self.told = list(told)
        self.ends: list[tuple[bool, bool]] = []
        self.left_s = 0.0

    async def follow(self, _tenant: str, _exact: str, left_s: Callable[[], float]) -> object:
        await asyncio.sleep(0)
        self.left_s = left_s()
        found = self.told.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def ended(self, _lease: HeldLease, *, kept: bool, each: bool) -> None:
        self.ends.append((kept, each))

    def lease(self) -> HeldLease:
        return HeldLease(cast(Leases, self), "key:k", "x", b"t", 0.0)


def together(elsewhere: Elsewhere | None = None, longest_s: float = 20.0, patience: Any = None) -> Together:
    return Together(Flights(longest_s), leases=cast(Leases, elsewhere), asking=an_asking(), patience=patience)


async def alike(one: Together, asks: Asked, likeness: float) -> Shared | None:
    return await one.alike(asks, question(asks.exact, likeness), needed, lambda _found: True)


async def begun(one: Together, exact: str, likeness: float) -> Asked:
    """One who leads, and can be found by likeness."""
    leader = asked(exact)
    assert await one.join(leader) == Word() and await alike(one, leader, likeness) is None
    one.begins(leader, question(exact, likeness))
    return leader


@pytest.mark.parametrize(
    ("told", "word", "leads"),
    [
        (ANSWER, Word(ANSWER), False),
        (Alone.EACH, Word(), False),
        (Alone.LATE, Word(), True),
        (None, Word(), True),
        (StoreAway(), Word(), True),
    ],
    ids=["answer", "nothing to share", "late", "no lease", "away"],
)
async def test_what_another_worker_does_counts_for_all_who_wait_here(told: object, word: Word, leads: bool) -> None:
    one = together(Elsewhere(told))
    first, second = asked(looked=TAKEN), asked(looked=TAKEN)
    joining = [asyncio.create_task(one.join(each)) for each in (first, second)]
    await asyncio.sleep(0)

    assert await joining[0] == word and (first.flight is not None) == leads

    if leads:
        assert not joining[1].done()
        first.land(ANSWER)
        word = Word(ANSWER)
    assert await joining[1] == word and one.counts["waited_elsewhere"] == 1


async def test_a_lease_that_was_got_ends_with_the_flight() -> None:
    elsewhere = Elsewhere()
    one, first = together(elsewhere), asked(looked=elsewhere.lease())

    assert await one.join(first) == Word()
    first.release()

    assert elsewhere.ends == [(False, True)]


async def test_who_leads_after_one_who_waited_for_another_worker_waits_for_it_as_well() -> None:
    elsewhere = Elsewhere(ANSWER)
    one = together(elsewhere)
    blocked = asyncio.Event()
    cast(Any, elsewhere).follow = _blocking(blocked)
    first, second = asked(looked=TAKEN), asked(looked=TAKEN)
    joining = [asyncio.create_task(one.join(each)) for each in (first, second)]
    await asyncio.sleep(0)

    joining[0].cancel()
    await asyncio.wait({joining[0]})
    first.land()
    blocked.set()

    assert await joining[1] == Word(ANSWER)


def _blocking(until: asyncio.Event) -> Any:
    async def follow(*_: object) -> Stored:
        await until.wait()
        return ANSWER

    return follow


async def test_a_paraphrase_waits_for_who_asks_and_leads_nobody_meanwhile() -> None:
    one = together()
    leader = await begun(one, "x", 1.0)
    paraphrase, its_own = asked("y"), asked("y")
    await one.join(paraphrase)
    behind = asyncio.create_task(one.join(its_own))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(alike(one, paraphrase, 0.95))

    assert await behind == Word(again=True) and paraphrase.flight is None
    also = asyncio.create_task(alike(one, its_own, 0.95))
    await asyncio.sleep(0)
    leader.land(ANSWER)

    found = [await waiting, await also]
    assert all(one is not None and (one.word, one.kind) == (Word(ANSWER), CacheMode.SEMANTIC) for one in found)
    assert len(one.flights) == 0


async def test_who_waits_for_another_is_not_waited_for() -> None:
    one = together()
    leader = await begun(one, "x", 1.0)
    near, far = asked("y"), asked("z")
    await one.join(near)
    waiting = asyncio.create_task(alike(one, near, 0.95))
    await asyncio.sleep(0)

    await one.join(far)  # like the one that waits, not like the one that is asked

    assert await alike(one, far, 0.85) is None and far.flight is not None
    leader.land(ANSWER)
    assert await waiting is not None


async def test_what_is_not_like_enough_or_not_allowed_is_not_waited_for() -> None:
    one = together()
    await begun(one, "x", 1.0)
    other, forbidden = asked("y"), asked("z")
    for each in (other, forbidden):
        await one.join(each)

    assert await alike(one, other, 0.85) is None and other.flight is not None
    assert await one.alike(forbidden, question("z", 0.95), needed, lambda _found: False) is None
    assert forbidden.flight is not None


async def test_where_the_first_fails_one_paraphrase_leads_and_the_others_wait_for_it() -> None:
    one = together()
    leader = await begun(one, "x", 1.0)
    waiting = []
    for place in range(3):
        each = asked(f"y{place}")
        await one.join(each)
        waiting.append((each, asyncio.create_task(leading(one, each))))
    await asyncio.sleep(0)

    leader.land(None)
    await asyncio.sleep(0.01)

    (led, task), *others = sorted(waiting, key=lambda pair: pair[0].flight is None)
    assert await task is None and led.flight is not None and not any(one.flight for one, _ in others)
    led.land(replace(ANSWER, exact=led.exact))
    assert [cast(Shared, await task).kind for _, task in others] == [CacheMode.SEMANTIC] * 2


async def leading(one: Together, each: Asked) -> Shared | None:
    """As the cache does: who finds nobody to wait for can be waited for."""
    found = await alike(one, each, 0.95)
    if found is None or found.word == Word():
        one.begins(each, question(each.exact, 0.95))
        return None
    return found


async def test_what_broke_off_before_anything_was_read_is_not_what_one_gets() -> None:
    one = together()
    leader = asked()
    await one.join(leader)
    cast_ = Broadcast(ANSWER)
    cast_.close(UpstreamBroken("broke"))
    follower = asked()
    flight = leader.flight
    assert flight is not None
    joining = asyncio.create_task(one.join(replace(follower, request=_streamed(follower))))
    await asyncio.sleep(0)

    flight.share(_Broken(cast_))
    leader.land()

    assert await joining == Word() and not cast_.readers


def _streamed(one: Asked) -> Any:
    return replace(one.request, envelope=_with_stream(one.request.envelope))


def _with_stream(envelope: Any) -> Any:
    envelope.stream = True
    return envelope


class _Broken:
    def __init__(self, cast_: Broadcast) -> None:
        self.cast = cast_

    def admits(self, _payer: str) -> bool:
        return True

    def board(self) -> Seat | None:
        return Seat(self.cast, 0)


async def test_all_waiting_together_has_one_bound() -> None:
    one = together(longest_s=0.05)
    await begun(one, "x", 1.0)
    await one.join(asked("y"))
    paraphrase = asked("y")

    assert await one.join(paraphrase) == Word()  # its time is over

    assert await alike(one, paraphrase, 0.95) is None and not one.counts["waited_alike"]


async def test_a_request_with_a_time_of_its_own_waits_no_longer() -> None:
    one = together()
    await one.join(asked())
    hasty = asked(latest_s=asyncio.get_running_loop().time() + 0.01)

    assert await asyncio.wait_for(one.join(hasty), 5) == Word()


async def test_load_that_comes_while_one_waits_gives_it_more_time() -> None:
    patiences, asked_for = iter([20.0, 0.01]), asyncio.Event()  # is the leader late, how long to wait, how long still

    def patience(_asked: Asked, usual_s: float) -> float:
        if (found := next(patiences, None)) is None:
            asked_for.set()
        return found or 3 * usual_s

    one = together(patience=patience)
    await one.join(leader := asked())
    joining = asyncio.create_task(one.join(asked()))

    await asyncio.wait_for(asked_for.wait(), 5)
    leader.land(ANSWER)

    assert await asyncio.wait_for(joining, 5) == Word(ANSWER)


async def test_under_load_too_nobody_waits_beyond_its_own_time() -> None:
    one = together(patience=lambda _asked, _usual_s: 60.0)
    await one.join(asked())
    hasty = asked(latest_s=asyncio.get_running_loop().time() + 0.01)

    assert await asyncio.wait_for(one.join(hasty), 5) == Word()


@pytest.mark.parametrize(("longest_s", "is_waited_for"), [(20.0, False), (60.0, True)])
async def test_who_has_asked_for_long_is_still_waited_for_under_load(longest_s: float, is_waited_for: bool) -> None:
    now = [0.0]
    flights = Flights(clock=lambda: now[0])
    one = Together(flights, asking=an_asking(), patience=lambda _asked, _usual_s: longest_s)
    leader = await begun(one, "x", 1.0)
    now[0] = 30.0

    joining = [asyncio.create_task(alike(one, asked("y"), 0.95)), asyncio.create_task(one.join(equal := asked()))]
    for _ in range(3):
        await asyncio.sleep(0)

    assert (equal.flight is None) == is_waited_for and [task.done() for task in joining] == [not is_waited_for] * 2
    leader.land(ANSWER)
    await asyncio.gather(*joining)


async def test_other_workers_are_waited_for_as_long_and_told_so_by_the_lease() -> None:
    elsewhere = Elsewhere(lease := Elsewhere().lease())
    one = together(elsewhere, patience=lambda _asked, _usual_s: 60.0)

    await one.join(asked(looked=TAKEN))

    assert 50 < elsewhere.left_s <= 60 and lease.longest_s() == 60
    await one.join(asked("y", looked=(own := elsewhere.lease())))
    assert own.longest_s() == 60
