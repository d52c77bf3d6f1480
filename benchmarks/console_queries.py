"""How long the console's questions take with a large log: every one of usage and log search, cold and warm.

    python -m benchmarks.console_queries --database-url URL [--fill 1000000] [--runs 15] [--evict FOLDER] [--json]

`--fill` adds requests of the last 30 days through the ledger's own writer to an empty database, prints how fast that
went, and lets the database gather its statistics; without it the database must have been filled so before. Cold is the
first call of a new process's connection, after the operating system was told to forget the pages of the files under
`--evict` (PostgreSQL's own buffers stay); warm are `--runs` calls after it. Times are those of the whole function,
with the rows it gives, in this process. `looked at` says whether a page was given up at the bound on candidates.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from sqlalchemy import insert, text

from gateway.admission.burn_down import burn_down
from gateway.admission.rules import Budget, Period, Scope, Window, WindowKind
from gateway.ledger.engine import open_engine, writing
from gateway.ledger.forecasts import calibration
from gateway.ledger.inserts import Inserter
from gateway.ledger.record import Record
from gateway.ledger.rows import to_row
from gateway.ledger.schema import upgrade
from gateway.ledger.search import Page, count, search
from gateway.ledger.search_filters import Filters
from gateway.ledger.tables import feedback
from gateway.ledger.usage import PERIODS, Where, groups, overview, stretch_of
from gateway.ledger.usage_tables import DAY_S

DAYS: Final = 30
BATCH: Final = 1_000
Question = Callable[[Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one question."""

    question: str
    cold_ms: float
    median_ms: float
    p95_ms: float
    note: str


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--fill", type=int, default=0)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--evict", type=Path)
    parser.add_argument("--only", default="", help="only questions whose name holds this")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.fill:
        upgrade(options.database_url)
        asyncio.run(_fill(options.database_url, options.fill))
    found = asyncio.run(_ask_all(options.database_url, options.runs, options.evict, options.only))
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    print("| question | cold ms | median ms | p95 ms | |\n|---|---|---|---|---|")
    for one in found:
        print(f"| {one.question} | {one.cold_ms:.0f} | {one.median_ms:.1f} | {one.p95_ms:.1f} | {one.note} |")


async def _fill(url: str, size: int) -> None:
    engine = open_engine(url)
    inserter = Inserter(engine, 120.0)
    rng = random.Random(1)
    began = time.perf_counter()
    spent_s = 0.0
    for start in range(0, size, BATCH):
        rows = [to_row(_record(number, size, rng)) for number in range(start, min(size, start + BATCH))]
        before = time.perf_counter()
        outcome = await inserter.insert(rows)
        spent_s += time.perf_counter() - before
        if outcome.refused:
            raise SystemExit(f"refused: {outcome.refused[0][1]}")
    print(f"{size} requests in {time.perf_counter() - began:.0f} s, {size / spent_s:.0f} rows/s into the database")
    scored = [_feedback(number, size, rng) for number in range(0, size, 20)]
    async with writing(engine).begin() as connection:
        for start in range(0, len(scored), BATCH):
            await connection.execute(insert(feedback), scored[start : start + BATCH])
    analyse = "VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE"
    if engine.dialect.name == "postgresql":
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text(analyse))
    await engine.dispose()


# Shares of a realistic day: a few large keys and models, many small ones, and things that happen a few times a month.
_MODELS: Final = [("gpt-large", 2), ("gpt-small", 1), ("claude", 2), ("gemini", 1), ("llama-local", 1), ("mistral", 1)]
_MODEL_WEIGHTS: Final = [30, 35, 15, 12, 7.95, 0.05]
_CATEGORIES: Final = ["general", "code", "math", "extraction", "translation", "chat", None, "legal"]
_CATEGORY_WEIGHTS: Final = [30, 20, 8, 12, 5, 15, 9.99, 0.01]
_KEYS: Final = 500
_KEY_WEIGHTS: Final = [1 / (place + 1) for place in range(_KEYS)]
_ERRORS: Final = [
    (429, "rate_limited", 60),
    (502, "upstream_error", 25),
    (400, None, 14.9),
    (500, "internal_error", 0.1),
]


def _id(number: int, at: float) -> str:
    return f"req_{int(at * 1000):011x}{number:013x}"


def _at(number: int, size: int) -> float:
    """Even over the last 30 days, to the second at which the benchmark's day began."""
    now = int(time.time()) // DAY_S * DAY_S + DAY_S / 2
    return now - DAYS * DAY_S * (1 - number / size)


def _record(number: int, size: int, rng: random.Random) -> Record:
    at = _at(number, size)
    model, endpoints = rng.choices(_MODELS, _MODEL_WEIGHTS)[0]
    key = rng.choices(range(_KEYS), _KEY_WEIGHTS)[0]
    status, code, _ = rng.choices(_ERRORS, [one[2] for one in _ERRORS])[0] if rng.random() < 0.03 else (200, None, 0)
    looked = rng.random()
    cache = "hit-exact" if looked < 0.12 else "hit-semantic" if looked < 0.2 else "miss" if looked < 0.9 else "off"
    if looked < 0.00005:
        cache = "hit-stale"
    hit = cache.startswith("hit")
    cost = 0 if hit else int(rng.lognormvariate(14, 1.6))
    total_ms = rng.lognormvariate(2, 0.4) if hit else rng.lognormvariate(7, 0.9)
    ranked = {"quality": 0.7123, "output_tokens": 300, "latency_ms": 512.5, "score": 0.55, "propensity": 0.25}
    return Record(
        id=_id(number, at),
        at=at,
        route="chat",
        key_id=f"key{key:09}",
        team_id=f"team{key % 60:08}" if key % 7 else None,
        organisation_id=f"org{key % 12:09}" if key % 7 else None,
        end_user=f"user-{rng.randrange(20_000)}" if rng.random() < 0.3 else None,
        tags=["nightly"] if rng.random() < 0.05 else ["pilot", "x"] if rng.random() < 0.00005 else None,
        policy="trial"
        if 0.5 < number / size < 0.5002
        else rng.choices(["default", "support", "batch"], [70, 25, 5])[0],
        policy_sha256="a" * 64,
        category=rng.choices(_CATEGORIES, _CATEGORY_WEIGHTS)[0],
        model_requested="auto",
        model=None if status == 429 else model,
        endpoint=None if status == 429 else f"{model}-{rng.randint(1, endpoints)}",
        provider="openai",
        router_kind="ridge",
        strategy="single",
        reason=f"ridge takes {model}: 0.71 quality for 0.0012 USD",
        propensity=1.0,
        decision=[
            {**ranked, "model": one, "endpoint": f"{one}-1", "quality": rng.random(), "cost_nanousd": cost + 1}
            for one, _ in _MODELS
        ],
        attempts=[{"endpoint": f"{model}-1", "outcome": "ok", "ms": total_ms}],
        features={"tokens": 812, "turns": 3, "language": "en", "code": False, "tools": False, "modalities": ["text"]},
        stream=rng.random() < 0.6,
        status=status,
        error_code=code,
        finish_reason="stop",
        cache_status=cache,
        cache_id=f"{number:032x}" if hit else None,
        saved_nanousd=int(rng.lognormvariate(14, 1.6)) if hit else None,
        input_tokens=rng.randrange(20, 8_000),
        output_tokens=rng.randrange(5, 1_500),
        cached_tokens=0,
        cost_nanousd=cost,
        reserved_nanousd=cost * 3,
        route_ms=0.4,
        first_byte_ms=total_ms / 4,
        total_ms=total_ms,
    )


def _feedback(number: int, size: int, rng: random.Random) -> dict[str, Any]:
    at = _at(number, size)
    return {"request_id": _id(number, at), "source": "user", "at": at + 60, "score": rng.random(), "key_id": "k"}


def _questions() -> Iterator[tuple[str, Question]]:
    yield from _usage_questions()
    for name, filters in _searches():
        yield f"search: {name}", _searching(filters)
        yield f"count: {name}", partial(count, filters=filters)
    middle = Filters(until=_at(1, 2))
    yield "search: a page in the middle", _searching(middle)
    yield "search: 1,000 rows", partial(search, filters=Filters(), limit=1_000)


def _usage_questions() -> Iterator[tuple[str, Question]]:
    for period in PERIODS:
        stretch = stretch_of(period)
        yield f"overview {period}", partial(overview, stretch=stretch)
        for line in ("model", "endpoint", "category", "key_id", "team_id"):
            yield f"groups {period} by {line}", partial(groups, stretch=stretch, by=line)
    for where in (Where(key_id="key000000000"), Where(key_id="key000000499"), Where(policy="trial"), Where(team_id="")):
        ((line, value),) = where.given().items()
        for period in ("7d", "30d"):
            name = f"overview {period}, {line} {value or 'none'}"
            yield name, partial(overview, stretch=stretch_of(period), where=where)
    yield (
        "models of a team, 7d",
        lambda engine: groups(engine, stretch_of("7d"), "model", Where(team_id="team00000001")),
    )
    month = Window(WindowKind.CALENDAR, Period.MONTH)
    for scope, subject, window in (
        (Scope.KEY, "key000000000", Window()),
        (Scope.TEAM, "team00000001", month),
        (Scope.MODEL, "gpt-large", Window(WindowKind.ROLLING, seconds=7 * DAY_S)),
    ):
        budget = Budget("b", scope, subject, 10**12, window)
        yield f"burn-down, {scope} {window.kind}", partial(burn_down, budget=budget)
    yield "forecasts 30d", lambda engine: calibration(engine, stretch_of("30d").start)


def _searches() -> Iterator[tuple[str, Filters]]:
    yield "nothing", Filters()
    large, small = "key000000000", "key000000499"
    yield "key, 15 %", Filters(key_id=large)
    yield "key, 0.03 %", Filters(key_id=small)
    yield "key, none", Filters(key_id="nobody")
    yield "team", Filters(team_id="team00000001")
    yield "model, 30 %", Filters(model="gpt-large")
    yield "model, 0.05 %", Filters(model="mistral")
    yield "endpoint", Filters(endpoint="gpt-large-2")
    yield "policy, 200 requests", Filters(policy="trial")
    yield "category, 0.01 %", Filters(category="legal")
    yield "status 5xx", Filters(status="5xx")
    yield "status ok", Filters(status="ok")
    yield "status 500", Filters(status=500)
    yield "error code, 30 requests", Filters(error_code="internal_error")
    yield "any hit", Filters(cache_status="hit")
    yield "stale hits, 50 requests", Filters(cache_status="hit-stale")
    yield "end user", Filters(end_user="user-77")
    yield "tag, 5 %", Filters(tag="nightly")
    yield "tag, 50 requests", Filters(tag="pilot")
    yield "cost from 0.01 USD", Filters(min_cost_nanousd=10_000_000)
    yield "cost from 0.5 USD", Filters(min_cost_nanousd=500_000_000)
    yield "latency from 5 s", Filters(min_total_ms=5_000.0)
    yield "latency from 30 s", Filters(min_total_ms=30_000.0)
    middle = _at(1, 2)
    yield "id prefix, one", Filters(id_prefix=_id(500_000, middle)[:14])
    yield "id prefix, all", Filters(id_prefix="req_")
    yield "one hour, key", Filters(since=middle, until=middle + 3_600, key_id=large)
    yield "large key and its errors", Filters(key_id=large, status="error")
    yield "large key, rare category", Filters(key_id=large, category="legal")
    # Each passes many requests, all together none or next to none: the worst there is.
    yield "none: large model, other's endpoint", Filters(model="gpt-large", endpoint="gpt-small-1")
    yield "none: large key, other's team, model", Filters(key_id=large, team_id="team00000001", model="gpt-large")
    yield "none: hits that cost", Filters(cache_status="hit", min_cost_nanousd=1)
    yield (
        "none: ok, cached, slow, dear",
        Filters(
            status="ok",
            cache_status="miss",
            min_total_ms=9_000.0,
            min_cost_nanousd=9_999_999,
            policy="default",
            model="claude",
        ),
    )
    yield "none: large model and tag in 4xx", Filters(model="gpt-large", tag="nightly", status=499)


def _searching(filters: Filters) -> Question:
    return partial(search, filters=filters)


async def _ask_all(url: str, runs: int, evict: Path | None, only: str) -> list[Timing]:
    return [await _ask(url, name, question, runs, evict) for name, question in _questions() if only in name]


async def _ask(url: str, name: str, question: Question, runs: int, evict: Path | None) -> Timing:
    if evict is not None:
        _forget_pages(evict)
    engine = open_engine(url)
    async with engine.connect():
        pass
    times_ms = []
    for _ in range(runs + 1):
        before = time.perf_counter()
        answer = await question(engine)
        times_ms.append((time.perf_counter() - before) * 1e3)
    await engine.dispose()
    warm = sorted(times_ms[1:])
    return Timing(name, times_ms[0], median(warm), warm[int(len(warm) * 0.95)], _note(answer))


def _note(answer: Any) -> str:
    if isinstance(answer, Page):
        given_up = "" if answer.looked_back_to is None else ", gave up at the bound"
        return f"{len(answer.rows)} rows{given_up}"
    exact = getattr(answer, "exact", None)
    return "" if exact is None else f"{answer.requests}{'' if exact else '+'}"


def _forget_pages(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


if __name__ == "__main__":
    main()
