"""The ledger as a folder to learn from, on both databases, read back as training reads it."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.engine import writing
from gateway.ledger.export import Wanted, export
from gateway.ledger.export_files import ExportError
from gateway.ledger.tables import feedback, request_log
from policies.catalogue import Catalogue, ModelCard
from routers.inputs import FACTS
from routers.training.dataset import Floats
from routers.training.read import read_folder

CATALOGUE = Catalogue(
    model=(
        ModelCard(id="small", context_tokens=9, price_in_usd_per_mtok=1, price_out_usd_per_mtok=2, params_b=3),
        ModelCard(id="unused", context_tokens=9),
    )
)
ALL = Wanted()


def _record(number: int, **fields: Any) -> dict[str, Any]:
    """A request that a router gave to one of two models."""
    vector = np.random.default_rng(number).normal(size=8).astype(np.float16)
    return {
        "id": f"req_{number}",
        "at": 1000.0 + number,
        "route": "chat",
        "status": 200,
        "policy": "default",
        "category": "code" if number % 2 else "general",
        "model": "large" if number % 3 == 0 else "small",
        "endpoint": "e",
        "router_kind": "knn",
        "propensity": 0.25,
        "decision": [{"endpoint": "e", "model": "large" if number % 3 == 0 else "small", "propensity": 0.125}],
        "attempts": [{"endpoint": "e", "outcome": "ok"}],
        "features": {
            "tokens": 7,
            "code": False,
            "tools": False,
            "facts": [number / 100] * len(FACTS),
            "features_version": 1,
        },
        "embedding": vector.tobytes(),
        "embedder": "minilm",
        "input_tokens": 7,
        "output_tokens": 100 + number,
        "cost_nanousd": 3_000_000,
        "total_ms": 1500.0,
        "prompt": json.dumps([{"role": "user", "content": f"What is {number}?"}]),
        **fields,
    }


async def _fill(engine: AsyncEngine, records: Sequence[dict[str, Any]], said: Sequence[dict[str, Any]] = ()) -> None:
    async with writing(engine).begin() as connection:
        for record in records:
            await connection.execute(insert(request_log).values(**record))
        for one in said:
            await connection.execute(insert(feedback).values(key_id="k", at=5000.0, **one))


def _scores(count: int) -> list[dict[str, Any]]:
    return [{"request_id": f"req_{number}", "source": "user", "score": number % 2} for number in range(count)]


def _table(folder: Path, name: str) -> list[dict[str, str]]:
    with gzip.open(folder / name, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _refuse(texts: Sequence[str]) -> Floats:
    raise AssertionError(f"asked to embed {texts}")


async def test_an_export_without_texts_is_read_back_as_it_was_logged(engine: AsyncEngine, tmp_path: Path) -> None:
    await _fill(engine, [_record(number) for number in range(20)], _scores(18))

    done = await export(engine, CATALOGUE, tmp_path / "out", ALL)
    data = read_folder(tmp_path / "out", _refuse, "minilm")

    assert (done.queries, done.judged, sorted(done.models), done.embedder) == (20, 18, ["large", "small"], "minilm")
    assert len(data) == 18 and set(data.texts) == {""}
    assert data.query_ids[:2] == ("req_0", "req_1") and data.tasks[:2] == ("general", "code")
    small = [card.id for card in data.models].index("small")
    assert data.models[small].params_b == 3
    assert data.score[1, small] == 1 and np.isnan(data.score[1, 1 - small])
    assert (data.output_tokens[1, small], data.latency_s[1, small]) == (101, 1.5)
    assert data.cost_usd[1, small] == pytest.approx(0.003)
    assert data.propensity is not None and data.propensity[1, small] == 0.25
    assert data.inputs.tokens[1] == 7 and data.inputs.facts[4].tolist() == pytest.approx([0.04] * len(FACTS))
    expected = np.random.default_rng(1).normal(size=8).astype(np.float16).astype(np.float32)
    assert data.inputs.embeddings[1] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


async def test_no_prompt_is_written_unless_it_is_asked_for(engine: AsyncEngine, tmp_path: Path) -> None:
    await _fill(engine, [_record(number) for number in range(3)])

    await export(engine, CATALOGUE, tmp_path / "bare", ALL)
    await export(engine, CATALOGUE, tmp_path / "told", Wanted(texts=True))

    assert [row["text"] for row in _table(tmp_path / "bare", "queries.csv.gz")] == ["", "", ""]
    assert not any(b"What is" in file.read_bytes() for file in (tmp_path / "bare").glob("*.json"))
    assert [row["text"] for row in _table(tmp_path / "told", "queries.csv.gz")] == [f"What is {n}?" for n in range(3)]
    assert (tmp_path / "told").stat().st_mode & 0o077 == 0


async def test_several_sources_are_averaged_and_no_feedback_is_no_score(engine: AsyncEngine, tmp_path: Path) -> None:
    said = [{"request_id": "req_0", "source": name, "score": score} for name, score in (("a", 1), ("b", 0.5))]
    await _fill(engine, [_record(0), _record(1)], said)

    await export(engine, CATALOGUE, tmp_path / "out", ALL)

    assert [row["score"] for row in _table(tmp_path / "out", "outcomes.csv.gz")] == ["0.75", ""]


async def test_time_and_policy_choose_the_requests(engine: AsyncEngine, tmp_path: Path) -> None:
    await _fill(engine, [_record(number, policy="a" if number < 5 else "b") for number in range(10)])

    done = await export(engine, CATALOGUE, tmp_path / "out", Wanted(since=1002.0, until=1008.0, policy="b"))

    assert done.queries == 3
    assert [row["query_id"] for row in _table(tmp_path / "out", "queries.csv.gz")] == ["req_5", "req_6", "req_7"]


async def test_more_than_a_page_comes_whole_and_once_also_at_one_moment(engine: AsyncEngine, tmp_path: Path) -> None:
    records = [_record(number, at=1000.0 + number // 700) for number in range(2100)]
    async with writing(engine).begin() as connection:
        await connection.execute(insert(request_log), records)

    await export(engine, CATALOGUE, tmp_path / "out", ALL)

    ids = [row["query_id"] for row in _table(tmp_path / "out", "queries.csv.gz")]
    assert len(ids) == len(set(ids)) == 2100


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 502},
        {"model": None},
        {"policy": None},
        {"cache_status": "hit"},
        {"strategy": "fuse"},
        {"embedding": None, "embedder": None},
        {"embedder": "another"},
    ],
)
async def test_what_tells_nothing_of_one_model_s_answer_is_left_out(
    engine: AsyncEngine, tmp_path: Path, fields: dict[str, Any]
) -> None:
    await _fill(engine, [_record(0, **fields), _record(1), _record(2)])

    done = await export(engine, CATALOGUE, tmp_path / "out", ALL)

    assert [row["query_id"] for row in _table(tmp_path / "out", "queries.csv.gz")] == ["req_1", "req_2"]
    assert sum(done.left_out.values()) == ("strategy" in fields or "embedder" in fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"router_kind": "pinned"},
        {"decision": [{"endpoint": "other", "model": "drawn"}, {"endpoint": "e", "model": "large"}]},
        {"decision": None},
        {"propensity": None},
        {"propensity": 0.0},
    ],
)
async def test_a_model_that_no_chance_chose_has_no_propensity(
    engine: AsyncEngine, tmp_path: Path, fields: dict[str, Any]
) -> None:
    await _fill(engine, [_record(0, **fields), _record(1)])

    await export(engine, CATALOGUE, tmp_path / "out", ALL)

    assert [row["propensity"] for row in _table(tmp_path / "out", "outcomes.csv.gz")] == ["", "0.25"]


@pytest.mark.parametrize(
    ("fields", "propensity"),
    [
        ({"attempts": [{"endpoint": "sibling", "outcome": "timeout"}, {"endpoint": "e", "outcome": "ok"}]}, "0.25"),
        ({"propensity": 1.0000000001}, "1.0"),
    ],
)
async def test_a_model_that_was_drawn_keeps_its_chance_whichever_of_its_endpoints_answers(
    engine: AsyncEngine, tmp_path: Path, fields: dict[str, Any], propensity: str
) -> None:
    await _fill(engine, [_record(0, **fields)])

    await export(engine, CATALOGUE, tmp_path / "out", ALL)

    assert [row["propensity"] for row in _table(tmp_path / "out", "outcomes.csv.gz")] == [propensity]


async def test_facts_that_were_not_logged_come_from_the_prompt_or_stay_open(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    old = {"features": {"tokens": 7, "code": True, "tools": False}}
    await _fill(engine, [_record(0, **old), _record(1, **old, prompt=None), _record(2, **old, prompt="cut [")])

    await export(engine, CATALOGUE, tmp_path / "out", ALL)

    with np.load(tmp_path / "out" / "embeddings.npz") as stored:
        missing = np.isnan(stored["facts"]).sum(axis=1).tolist()
        assert missing == [0, len(FACTS) - 3, len(FACTS) - 3]
        assert stored["facts"][1, FACTS.index("code")] == 1 and stored["embeddings"].dtype == np.float16


async def test_a_taken_place_is_kept_unless_forced_and_strangers_files_always(
    engine: AsyncEngine, tmp_path: Path
) -> None:
    await _fill(engine, [_record(0)])
    out = tmp_path / "out"
    await export(engine, CATALOGUE, out, ALL)
    await _fill(engine, [_record(1)])

    with pytest.raises(ExportError, match="--force"):
        await export(engine, CATALOGUE, out, ALL)
    assert len(_table(out, "queries.csv.gz")) == 1
    assert (await export(engine, CATALOGUE, out, ALL, force=True)).queries == 2
    assert len(_table(out, "queries.csv.gz")) == 2
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"notes\.txt"):
        await export(engine, CATALOGUE, out, ALL, force=True)
    assert [path.name for path in tmp_path.glob("*out*")] == ["out"]


async def test_an_export_that_fails_leaves_nothing_behind(engine: AsyncEngine, tmp_path: Path) -> None:
    await _fill(engine, [_record(0, embedding=None)])

    with pytest.raises(ExportError, match="1 neither embedding nor text"):
        await export(engine, CATALOGUE, tmp_path / "out", ALL)
    with pytest.raises(ExportError, match="no answered request fits"):
        await export(engine, CATALOGUE, tmp_path / "out", Wanted(policy="nobody's"))

    assert not list(tmp_path.rglob("*out*"))


async def test_the_same_ledger_makes_the_same_files(engine: AsyncEngine, tmp_path: Path) -> None:
    await _fill(engine, [_record(number) for number in range(5)])

    for name in ("a", "b"):
        await export(engine, CATALOGUE, tmp_path / name, ALL)

    for name in ("queries.csv.gz", "outcomes.csv.gz", "models.json", "export.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
