"""What several processes know of answers given by likeness: sums, closed settings, and who hears of them."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger import privacy
from gateway.ledger.acts import CACHE_TRUST
from gateway.ledger.cache_evidence import CheckedPair, EvidenceStore, Label, Place, Sums, Verdict
from gateway.ledger.engine import open_engine
from gateway.ledger.faults import DatabaseUnavailable
from gateway.ledger.tables import audit_log, change

PLACE = Place("team:a", "support_faq", 0.05)
OTHER = Place("team:b", "support_faq", 0.05)
NOW = 1_800_000_000.0


def label(name: str, verdict: Verdict = "same", place: Place = PLACE, user: str | None = None) -> Label:
    return Label(name, NOW, place, verdict, user, asked=f"{name}?", cached="known?", score=0.97)


async def test_what_several_processes_add_is_summed_up_by_place(engine: AsyncEngine) -> None:
    stores = [EvidenceStore(engine) for _ in range(4)]

    await asyncio.gather(
        *(store.add("c", {PLACE: 10, OTHER: 1}, [label(f"l{number}")]) for number, store in enumerate(stores))
    )
    await stores[0].add("c", {}, [label("d", "different"), label("u", "undecided"), label("r", "reported")])

    assert await stores[1].read("c", "team:a") == [("c", PLACE, Sums(40, 1, 4, 1, 1))]
    assert await stores[1].read("another") == []


async def test_what_several_say_of_one_answer_counts_once(engine: AsyncEngine) -> None:
    store = EvidenceStore(engine)

    await asyncio.gather(*(store.add("c", {}, [label("one", "reported")]) for _ in range(3)))

    assert [sums for _, _, sums in await store.read()] == [Sums(reported=1)]


async def test_a_setting_is_closed_once_and_everybody_is_told(engine: AsyncEngine) -> None:
    store = EvidenceStore(engine)
    await store.add("c", {PLACE: 1, OTHER: 1}, [])

    closed = [await store.close("c", PLACE, {"lower": 0.1}) for _ in range(2)]

    assert closed == [True, False] and await store.closed("c") == {PLACE}
    async with engine.connect() as connection:
        told = (await connection.execute(select(change.c.what))).scalars().all()
        audited = (await connection.execute(select(audit_log.c.action, audit_log.c.subject))).all()
    assert told == [CACHE_TRUST] and [tuple(row) for row in audited] == [("cache.tighten", "team:a")]


async def test_an_operator_opens_settings_again(engine: AsyncEngine) -> None:
    store = EvidenceStore(engine)
    await store.add("c", {PLACE: 1, OTHER: 1}, [])
    await store.close("c", PLACE, {})
    await store.close("c", OTHER, {})

    assert await store.reset("cli:ada", tenant="team:a", topic="support_faq", share=0.05) == 1

    assert await store.closed("c") == {OTHER}
    assert await store.reset("cli:ada") == 1 and await store.read() == []


async def test_pairs_are_those_that_were_decided_and_kept(engine: AsyncEngine) -> None:
    store = EvidenceStore(engine)
    unkept = Label("silent", NOW, PLACE, "same")
    await store.add("c", {}, [label("a"), label("b", "different"), label("c", "undecided"), unkept])

    assert await store.pairs() == [
        CheckedPair("a?", "known?", True, "support_faq", "c", 0.05, 0.97),
        CheckedPair("b?", "known?", False, "support_faq", "c", 0.05, 0.97),
    ]


async def test_pairs_of_one_tenant_are_told_apart(engine: AsyncEngine) -> None:
    store = EvidenceStore(engine)
    await store.add("c", {}, [label("a"), label("b", place=OTHER)])

    assert [pair.asked for pair in await store.pairs("team:b")] == ["b?"]
    assert await store.pairs("team:c") == []


async def test_an_end_users_questions_are_forgotten_and_old_ones_but_not_what_they_showed(engine: AsyncEngine) -> None:
    store = EvidenceStore(engine)
    await store.add("c", {}, [label("a", user="ada"), label("b", user="bob")])

    await privacy.erase_user(engine, "ada")
    assert [pair.asked for pair in await store.pairs()] == ["b?"]
    await privacy.forget_before(engine, NOW + 1)

    assert await store.pairs() == [] and (await store.read())[0][2].same == 2


async def test_without_a_database_it_says_so() -> None:
    store = EvidenceStore(open_engine("postgresql://nobody@127.0.0.1:9/none"))

    for asked in (store.add("c", {PLACE: 1}, []), store.read(), store.reset("x"), store.close("c", PLACE, {})):
        with pytest.raises(DatabaseUnavailable):
            await asked
