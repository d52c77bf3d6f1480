"""The log search on both databases: every filter alone and together, page by page, nothing twice, nothing left out."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.inserts import Inserter
from gateway.ledger.record import Record
from gateway.ledger.rows import to_row
from gateway.ledger.search import COUNTED, SHOWN, Bounds, Count, Cursor, CursorError, Page, count, search
from gateway.ledger.search_filters import Filters
from tests.integration.database.ledgers import a_record

START = 1_700_000_000.0
PATIENT = Bounds(patience_s=math.inf)


def _records(size: int = 400) -> list[Record]:
    """Requests of every kind; many of the same moment."""
    rng = random.Random(5)
    found = []
    for number in range(size):
        failed = rng.random() < 0.2
        hit = rng.random() < 0.2
        found.append(
            a_record(
                number,
                id=f"req_{rng.randrange(16**6):06x}{number:04d}",
                at=START + number // 7,
                key_id=rng.choice(["k1", "k2", None]),
                team_id=rng.choice(["t1", "t2", None]),
                model=rng.choice(["m1", "m2", None]),
                endpoint=rng.choice(["e1", "e2"]),
                policy=rng.choice(["p1", "p2"]),
                category=rng.choice(["c1", "c2", None]),
                status=rng.choice([400, 429, 503]) if failed else 200,
                error_code=rng.choice(["overloaded", None]) if failed else None,
                cache_status=rng.choice(["hit-exact", "hit-stale"]) if hit else rng.choice(["off", "miss"]),
                cache_id="c" if hit else None,
                cost_nanousd=rng.choice([None, 5, 10_000_000, 50_000_000]),
                total_ms=rng.choice([None, 5.0, 10_000.0, 30_000.0]),
                end_user=rng.choice([None, None, "ann"]),
                tags=rng.choice([None, ["red"], ["red", 'b"lue'], []]),
            )
        )
    return found


async def _insert(engine: AsyncEngine, records: list[Record]) -> None:
    await Inserter(engine, 20.0).insert([to_row(record) for record in records])


async def _all(engine: AsyncEngine, filters: Filters, limit: int = 50, bounds: Bounds = PATIENT) -> list[str]:
    ids: list[str] = []
    after: Cursor | None = None
    for _ in range(200):
        page = await search(engine, filters, limit=limit, after=after, bounds=bounds)
        ids += [row["id"] for row in page.rows]
        if page.next is None:
            return ids
        after = Cursor.of(page.next.text())
    raise AssertionError("it never ends")


def _expected(records: list[Record], passes: Callable[[Record], bool]) -> list[str]:
    return [one.id for one in sorted(records, key=lambda one: (-one.at, one.id)) if passes(one)]


FILTERS: dict[str, tuple[Filters, Callable[[Record], bool]]] = {
    "nothing": (Filters(), lambda one: True),
    "since": (Filters(since=START + 20), lambda one: one.at >= START + 20),
    "until": (Filters(until=START + 20), lambda one: one.at < START + 20),
    "key": (Filters(key_id="k1"), lambda one: one.key_id == "k1"),
    "team": (Filters(team_id="t2"), lambda one: one.team_id == "t2"),
    "model": (Filters(model="m1"), lambda one: one.model == "m1"),
    "endpoint": (Filters(endpoint="e2"), lambda one: one.endpoint == "e2"),
    "policy": (Filters(policy="p1"), lambda one: one.policy == "p1"),
    "category": (Filters(category="c1"), lambda one: one.category == "c1"),
    "ok": (Filters(status="ok"), lambda one: one.status == 200),
    "2xx": (Filters(status="2xx"), lambda one: one.status == 200),
    "error": (Filters(status="error"), lambda one: one.status >= 400),
    "4xx": (Filters(status="4xx"), lambda one: 400 <= one.status < 500),
    "5xx": (Filters(status="5xx"), lambda one: one.status == 503),
    "429": (Filters(status=429), lambda one: one.status == 429),
    "error_code": (Filters(error_code="overloaded"), lambda one: one.error_code == "overloaded"),
    "any_hit": (Filters(cache_status="hit"), lambda one: one.cache_status.startswith("hit")),
    "stale_hit": (Filters(cache_status="hit-stale"), lambda one: one.cache_status == "hit-stale"),
    "miss": (Filters(cache_status="miss"), lambda one: one.cache_status == "miss"),
    "dear": (Filters(min_cost_nanousd=20_000_000), lambda one: (one.cost_nanousd or 0) >= 20_000_000),
    "not_free": (Filters(min_cost_nanousd=1), lambda one: (one.cost_nanousd or 0) >= 1),
    "slow": (Filters(min_total_ms=10_000.0), lambda one: (one.total_ms or 0) >= 10_000),
    "not_instant": (Filters(min_total_ms=1.0), lambda one: (one.total_ms or 0) >= 1),
    "end_user": (Filters(end_user="ann"), lambda one: one.end_user == "ann"),
    "tag": (Filters(tag="red"), lambda one: "red" in (one.tags or ())),
    "odd_tag": (Filters(tag='b"lue'), lambda one: 'b"lue' in (one.tags or ())),
    "no_such_key": (Filters(key_id="' OR 1=1 --"), lambda one: False),
    "several": (
        Filters(key_id="k1", model="m1", status="error", since=START + 5, tag="red"),
        lambda one: (
            one.key_id == "k1"
            and one.model == "m1"
            and one.status >= 400
            and one.at >= START + 5
            and "red" in (one.tags or ())
        ),
    ),
    "unordered_together": (
        Filters(min_total_ms=10_000.0, min_cost_nanousd=10_000_000, policy="p2"),
        lambda one: (one.total_ms or 0) >= 10_000 and (one.cost_nanousd or 0) >= 10_000_000 and one.policy == "p2",
    ),
}


@pytest.fixture
async def stored(engine: AsyncEngine) -> list[Record]:
    """What lies in the log."""
    records = _records()
    await _insert(engine, records)
    return records


async def test_every_filter_finds_what_passes_it_page_by_page(engine: AsyncEngine, stored: list[Record]) -> None:
    for name, (filters, passes) in FILTERS.items():
        expected = _expected(stored, passes)

        assert await _all(engine, filters) == expected, name
        assert await count(engine, filters, bounds=PATIENT) == Count(len(expected), exact=True), name


@pytest.mark.parametrize("candidates", [1, 7, 60])
async def test_a_bound_on_what_is_looked_at_changes_pages_but_not_what_they_hold(
    engine: AsyncEngine, stored: list[Record], candidates: int
) -> None:
    names = ("nothing", "4xx", "slow", "several", "unordered_together", "tag") if candidates > 1 else ("5xx", "several")
    for name in names:
        filters, passes = FILTERS[name]

        assert await _all(engine, filters, 5, Bounds(candidates)) == _expected(stored, passes), name


async def test_a_page_that_gave_up_says_how_far_it_looked(engine: AsyncEngine, stored: list[Record]) -> None:
    filters = Filters(status="ok", min_total_ms=1.0)

    page = await search(engine, filters, limit=50, bounds=Bounds(10))

    newest = sorted(stored, key=lambda one: (-one.at, one.id))[:10]
    assert page.looked_back_to == newest[-1].at and page.next == Cursor(newest[-1].at, newest[-1].id)
    assert [row["id"] for row in page.rows] == [
        one.id for one in newest if one.status == 200 and (one.total_ms or 0) >= 1
    ]
    assert await count(engine, filters, bounds=Bounds(10)) == Count(len(page.rows), exact=False)


async def test_a_full_page_and_the_last_one_hide_nothing(engine: AsyncEngine, stored: list[Record]) -> None:
    full = await search(engine, Filters(), limit=400)
    short = await search(engine, Filters(), limit=399)

    assert len(full.rows) == 400 and full.next is None and full.looked_back_to is None
    assert short.next is not None and short.looked_back_to is None
    assert await search(engine, Filters(), after=full_end(full)) == Page([], None)


def full_end(page: Page) -> Cursor:
    """Where a page ended."""
    return Cursor(page.rows[-1]["at"], page.rows[-1]["id"])


async def test_requests_that_come_meanwhile_do_not_shift_the_next_page(
    engine: AsyncEngine, stored: list[Record]
) -> None:
    first = await search(engine, Filters(), limit=30)
    await _insert(engine, [a_record(9_000 + n, at=START + 10_000) for n in range(10)])

    second = await search(engine, Filters(), limit=30, after=first.next)

    assert [row["id"] for row in first.rows + second.rows] == _expected(stored, lambda one: True)[:60]


async def test_an_id_is_found_by_how_it_begins(engine: AsyncEngine, stored: list[Record]) -> None:
    wanted = stored[17].id
    for prefix in (wanted, wanted[:9], "req_"):
        expected = _expected(stored, lambda one, prefix=prefix: one.id.startswith(prefix))  # type: ignore[misc]

        assert await _all(engine, Filters(id_prefix=prefix), 100) == expected
    assert await _all(engine, Filters(id_prefix="req_zzz")) == []


async def test_only_the_columns_that_are_asked_for_are_read(engine: AsyncEngine, stored: list[Record]) -> None:
    row = (await search(engine, Filters(), limit=1)).rows[0]
    two = (await search(engine, Filters(), limit=1, columns=("at", "prompt"))).rows[0]

    assert tuple(row) == SHOWN and set(two) == {"id", "at", "prompt"}


async def test_a_count_over_its_bound_says_at_least(engine: AsyncEngine) -> None:
    await _insert(engine, [a_record(number) for number in range(COUNTED + 1)])

    assert await count(engine, Filters(), bounds=PATIENT) == Count(COUNTED, exact=False)
    assert await count(engine, Filters(until=a_record(COUNTED).at), bounds=PATIENT) == Count(COUNTED, exact=True)


@pytest.mark.parametrize("text", ["", "x", "0x1p+1", "nan~req", "inf~r", "0x1p+1~\0", "0x1p+99999~r"])
def test_a_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CursorError, match="unchanged"):
        Cursor.of(text)


def test_a_cursor_comes_back_as_it_was() -> None:
    for cursor in (Cursor(1_700_000_000.123456, "req_1"), Cursor(0.1, "a~b"), Cursor(0.0, "")):
        assert Cursor.of(cursor.text()) == cursor
