"""What the ledger and the key check cost: CPU microseconds a record, on SQLite and on any database given by URL.

    python -m benchmarks.ledger [--rows 20000] [--database-url postgresql://...] [--json]

A database given by URL must be empty or a Fingerpost database; rows are added to it. CPU is that of this process with
all its threads (a PostgreSQL server's own work is not in it). The best of three rounds counts: the machine is shared.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import insert

from benchmarks.gateway.machine import facts
from gateway.admission.key_store import KeyStore
from gateway.admission.keys import Keyring
from gateway.ledger.engine import hidden, normalise_url, open_engine, writing
from gateway.ledger.record import Entry, Record
from gateway.ledger.rows import from_line, to_line, to_row
from gateway.ledger.schema import upgrade
from gateway.ledger.tables import request_log
from gateway.ledger.writer import LedgerWriter, Pace

Made = TypeVar("Made")
ROUNDS: Final = 3
PACED_PER_S: Final = 2_000
PACED_S: Final = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """One database's figures, microseconds of CPU a row unless the name says otherwise."""

    database: str
    put_us: float
    burst_us: float
    burst_rows_per_s: float
    paced_us: float
    paced_longest_stall_ms: float
    plain_sqlalchemy_us: float
    cached_key_us: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--database-url", action="append", default=[], help="also measure this database")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fingerpost-bench-") as folder:
        urls = [f"sqlite:///{folder}/ledger.sqlite3", *options.database_url]
        databases = [_measure(url, Path(folder), options.rows) for url in urls]
    pure = _pure(options.rows)
    if options.json:
        found = {"machine": facts(), "pure": pure, "databases": [asdict(figures) for figures in databases]}
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_table("without a database", pure)))
        for figures in databases:
            print("\n".join(_table("with", asdict(figures))))


def _measure(url: str, folder: Path, rows: int) -> Figures:
    upgrade(url)
    return asyncio.run(_figures(url, folder, rows))


async def _figures(url: str, folder: Path, rows: int) -> Figures:
    put, burst, rate = await _best(lambda: _burst(url, folder, rows))
    paced, stall = await _best(lambda: _paced(url, folder))
    (plain,) = await _best(lambda: _plain(url, rows))
    (key,) = await _best(lambda: _cached_key(url))
    return Figures(hidden(normalise_url(url)), put, burst, -rate, paced, stall, plain, key)


async def _best(measure: Callable[[], Awaitable[tuple[float, ...]]]) -> list[float]:
    """The least of each figure over the rounds (a rate comes as its negative)."""
    rounds = [await measure() for _ in range(ROUNDS)]
    return [min(figures) for figures in zip(*rounds, strict=True)]


async def _burst(url: str, folder: Path, rows: int) -> tuple[float, float, float]:
    """A full queue written out: CPU of `put` alone, CPU of all, rows a second (negative)."""
    engine = open_engine(url)
    writer = LedgerWriter(engine, folder / "spool", pace=Pace(max_queue=rows))
    await writer.start()
    records = _records(rows)
    with _no_collection():
        cpu, wall = time.process_time(), time.perf_counter()
        for record in records:
            writer.put(record)
        put_s = time.process_time() - cpu
        await writer.drain(60)
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    await engine.dispose()
    return put_s / rows * 1e6, cpu_s / rows * 1e6, -rows / wall_s


async def _paced(url: str, folder: Path) -> tuple[float, float]:
    """Records as they come under load: CPU a record beyond that of the load itself, longest stall of the loop (ms)."""
    rows = PACED_PER_S * PACED_S
    engine = open_engine(url)
    writer = LedgerWriter(engine, folder / "spool")
    await writer.start()
    load_s, _ = await _feed(_Nowhere(), _records(rows))
    cpu_s, stall_s = await _feed(writer, _records(rows))
    await writer.drain(10)
    await engine.dispose()
    return (cpu_s - load_s) / rows * 1e6, stall_s * 1e3


async def _feed(ledger: LedgerWriter | _Nowhere, records: Sequence[Record]) -> tuple[float, float]:
    """Put at `PACED_PER_S`; CPU seconds in all, and the longest time by which a wake-up was late."""
    cpu, start, late_s, done = time.process_time(), time.perf_counter(), 0.0, 0
    while done < len(records):
        due = min(len(records), int((time.perf_counter() - start) * PACED_PER_S))
        for record in records[done:due]:
            ledger.put(record)
        done = due
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        late_s = max(late_s, time.perf_counter() - before - 0.001)
    await asyncio.sleep(0.3)
    return time.process_time() - cpu, late_s


class _Nowhere:
    def put(self, record: Entry) -> None:
        """Keep nothing."""


async def _plain(url: str, rows: int) -> tuple[float]:
    """For comparison: dictionaries through SQLAlchemy Core, as its tutorial does it."""
    engine = writing(open_engine(url))
    values = [asdict(record) for record in _records(rows)]
    with _no_collection():
        cpu = time.process_time()
        for start in range(0, rows, 1_000):
            async with engine.begin() as connection:
                await connection.execute(insert(request_log), values[start : start + 1_000])
        cpu_s = time.process_time() - cpu
    await engine.dispose()
    return (cpu_s / rows * 1e6,)


async def _cached_key(url: str) -> tuple[float]:
    engine = open_engine(url)
    store = KeyStore(engine)
    row, token = await store.issue("benchmark")
    keyring = Keyring(store)
    await keyring.authenticate(token)
    cpu = time.process_time()
    for _ in range(20_000):
        await keyring.authenticate(token)
    cpu_s = time.process_time() - cpu
    await store.revoke(row.id)
    await engine.dispose()
    return (cpu_s / 20_000 * 1e6,)


def _pure(rows: int) -> dict[str, float]:
    """The steps that need no database, microseconds of CPU a record."""
    records = _records(rows)
    with _no_collection():
        row_s, table = _timed(lambda: [to_row(record) for record in records])
        line_s, lines = _timed(lambda: [to_line(row) for row in table])
        parse_s, _ = _timed(lambda: [from_line(line) for line in lines])
    figures = {"to_row_us": row_s, "to_line_us": line_s, "from_line_us": parse_s}
    return {name: spent_s / rows * 1e6 for name, spent_s in figures.items()} | {"line_bytes": float(len(lines[0]))}


def _timed(make: Callable[[], list[Made]]) -> tuple[float, list[Made]]:
    cpu = time.process_time()
    made = make()
    return time.process_time() - cpu, made


@contextmanager
def _no_collection() -> Iterator[None]:
    """The records that a benchmark keeps alive would make the collector's passes longer than in service."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _records(count: int) -> list[Record]:
    """Typical requests: four ranked candidates, one attempt, features, no prompt, no embedding."""
    run = secrets.token_hex(8)
    return [_record(f"req_{run}{number:08x}") for number in range(count)]


def _record(request_id: str) -> Record:
    ranked = {"model": "gpt-4o-mini", "quality": 0.7123, "cost_nanousd": 123_456, "latency_ms": 512.5, "score": 0.55}
    return Record(
        id=request_id,
        at=time.time(),
        route="chat",
        key_id="abcdefghijkl",
        policy="default",
        policy_sha256="a" * 64,
        category="general",
        model_requested="auto",
        model="smollm2-135m",
        endpoint="local-smollm2",
        provider="local",
        router_kind="rules",
        reason="rule 'code' prefers smollm2-135m",
        propensity=1.0,
        decision=[{"endpoint": f"endpoint-{place}", "propensity": 0.25, **ranked} for place in range(4)],
        attempts=[{"endpoint": "endpoint-0", "status": 200, "ms": 512.1}],
        features={"tokens": 123, "chars": 512, "turns": 1, "language": "en", "code": False, "tools": False},
        stream=True,
        status=200,
        finish_reason="stop",
        input_tokens=123,
        output_tokens=456,
        cached_tokens=0,
        reasoning_tokens=0,
        cost_nanousd=1_234_567,
        route_ms=0.31,
        first_byte_ms=123.4,
        total_ms=2_345.6,
    )


def _table(title: str, figures: Mapping[str, float | str]) -> list[str]:
    shown = ((name, f"{figure:.2f}" if isinstance(figure, float) else figure) for name, figure in figures.items())
    return [title, *(f"  {name:24} {figure}" for name, figure in shown)]


if __name__ == "__main__":
    main()
