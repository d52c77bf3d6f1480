"""The request log as a folder to learn from, in the form of docs/data.md: outcomes with their feedback, and vectors.

Knows no HTTP and no command line. Whole or not at all: a folder is written beside its place and then renamed.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from sqlalchemy import ColumnElement, Row, Select, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.ledger.export_files import ExportError, Tables, put_in_place, refuse_taken
from gateway.ledger.faults import asking
from gateway.ledger.tables import feedback, request_log
from gateway.wire.chat_request import Message, text_of
from policies.catalogue import Catalogue, ModelCard
from routers.decision import FEATURES_VERSION
from routers.features import has_code
from routers.inputs import FACTS, facts_of
from routers.training.cards import DEFAULT_CONTEXT_TOKENS, JSON_FILE
from routers.training.vectors import FILE, Vectors, save_vectors

PAGE_ROWS: Final = 1000
SINGLE: Final = "single"
PINNED: Final = "pinned"
_messages: Final = msgspec.json.Decoder(list[Message])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which requests: from `since` to before `until` (Unix seconds), of one policy; `texts`: with their prompts."""

    since: float | None = None
    until: float | None = None
    policy: str | None = None
    texts: bool = False


@dataclass(slots=True)
class Exported:
    """What was written, and how many requests were left out for which reason; `strangers` are models without card."""

    queries: int = 0
    judged: int = 0
    models: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    embedder: str = ""
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str) -> None:
        """Count one more."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class _Vector:
    """Of one request: float16 bytes, facts (NaN: not known) and prompt tokens."""

    query_id: str
    embedding: bytes
    facts: Sequence[float]
    tokens: float


async def export(
    engine: AsyncEngine, catalogue: Catalogue, out: Path, wanted: Wanted, *, force: bool = False
) -> Exported:
    """Write the folder; raises `ExportError` where it is taken or nothing fits, `DatabaseUnavailable`, `OSError`."""
    refuse_taken(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        done = Exported(embedder=await _embedder(engine, wanted))
        vectors: list[_Vector] = []
        with Tables(made) as tables:
            async for row in _rows(engine, wanted):
                _take(row, wanted, done, tables, vectors)
        if not done.queries:
            raise ExportError(_nothing(done))
        done.strangers = [model for model in done.models if catalogue.card(model) is None]
        _write_models(made / JSON_FILE, catalogue, done.models)
        if vectors:
            save_vectors(made / FILE, _vectors(vectors, done.embedder))
        facts = {"format": 1, **asdict(wanted), **asdict(done)}
        (made / "export.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        put_in_place(made, out, force)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return done


def _take(row: Row[Any], wanted: Wanted, done: Exported, tables: Tables, vectors: list[_Vector]) -> None:
    """One request into the tables, or into the count of those left out."""
    text = asked_text(row.prompt)
    usable = row.embedding is not None and row.embedder == done.embedder
    if row.strategy not in (None, SINGLE):
        done.leave_out("a strategy made several calls")
    elif not usable and not (wanted.texts and text):
        reason = "embedded by another embedder" if row.embedding is not None else "neither embedding nor text"
        done.leave_out(reason)
    else:
        done.queries += 1
        done.judged += row.score is not None
        if row.model not in done.models:
            done.models.append(row.model)
        tables.query(row.id, row.category, text if wanted.texts else "", row.at)
        tables.outcome(_outcome(row))
        if usable:
            vectors.append(_vector(row, text))


def _outcome(row: Row[Any]) -> tuple[object, ...]:
    cost = None if row.cost_nanousd is None else row.cost_nanousd / 1e9
    latency = None if row.total_ms is None else round(row.total_ms / 1000, 6)
    return (row.id, row.model, row.score, row.input_tokens, row.output_tokens, cost, latency, _propensity(row))


def _propensity(row: Row[Any]) -> float | None:
    """Chance that this model was asked, at any of its endpoints; None where no chance decided: it was named, or it
    stood in for another."""
    drawn = row.decision[0].get("model") if row.decision else None
    share = float(row.propensity or 0.0)
    if row.router_kind == PINNED or row.model != drawn or share <= 0:
        return None
    return min(share, 1.0)  # a sum over endpoints may be a hair above


def asked_text(prompt: str | None) -> str:
    """The text that was routed by, out of the logged messages: the user's last; '' where they can't be read."""
    if not prompt:
        return ""
    try:
        messages = _messages.decode(prompt)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return ""
    texts = [text_of(message) for message in messages if message.role == "user"]
    return texts[-1].strip() and texts[-1] if texts else ""


def _vector(row: Row[Any], text: str) -> _Vector:
    """Facts as they were logged, else from the text, else the few that features tell."""
    features: dict[str, Any] = row.features or {}
    tokens = features.get("tokens")
    facts: Sequence[float] = features.get("facts") or ()
    if len(facts) != len(FACTS) or features.get("features_version") != FEATURES_VERSION:
        facts = _few_facts(features) if not text or tokens is None else _text_facts(text, features)
    return _Vector(row.id, row.embedding, facts, math.nan if tokens is None else float(tokens))


def _text_facts(text: str, features: dict[str, Any]) -> Sequence[float]:
    return facts_of(text, features["tokens"], has_code(text), bool(features.get("tools")))


def _few_facts(features: dict[str, Any]) -> Sequence[float]:
    tokens, code, tools = (features.get(name) for name in ("tokens", "code", "tools"))
    known = {"log_tokens": None if tokens is None else math.log1p(tokens) / 10, "code": code, "tools": tools}
    return [math.nan if known.get(name) is None else float(known[name] or 0) for name in FACTS]


def _vectors(found: Sequence[_Vector], embedder: str) -> Vectors:
    """Those of the commonest length; an embedder has one."""
    size = Counter(len(one.embedding) for one in found).most_common(1)[0][0]
    sound = [one for one in found if len(one.embedding) == size]
    return Vectors(
        query_ids=tuple(one.query_id for one in sound),
        embeddings=np.stack([np.frombuffer(one.embedding, dtype=np.float16) for one in sound]).astype(np.float32),
        facts=np.array([one.facts for one in sound], dtype=np.float32),
        tokens=np.array([one.tokens for one in sound], dtype=np.float32),
        embedder=embedder,
    )


def _write_models(file: Path, catalogue: Catalogue, models: Sequence[str]) -> None:
    """Cards as the catalogue has them now; of a model that it has no more only the id."""
    cards = [catalogue.card(model) or ModelCard(id=model, context_tokens=DEFAULT_CONTEXT_TOKENS) for model in models]
    rows = [card.model_dump(mode="json", exclude_defaults=True) for card in cards]
    file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _nothing(done: Exported) -> str:
    if not done.left_out:
        return "nothing to export: no answered request fits (see --since, --until and --policy)"
    reasons = ", ".join(f"{count} {reason}" for reason, count in done.left_out.items())
    return f"nothing to export ({reasons}): let a policy keep embeddings ([log] embeddings = true), or give --texts"


def _fitting(wanted: Wanted) -> ColumnElement[bool]:
    """Requests that one model of a policy answered."""
    log = request_log.c
    conditions = [log.status == 200, log.model.is_not(None), log.policy.is_not(None), log.cache_status != "hit"]
    if wanted.since is not None:
        conditions.append(log.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(log.at < wanted.until)
    if wanted.policy is not None:
        conditions.append(log.policy == wanted.policy)
    return and_(*conditions)


async def _embedder(engine: AsyncEngine, wanted: Wanted) -> str:
    """The one that made most of the embeddings; '' where there are none."""
    log = request_log.c
    count = func.count()
    found = (
        select(log.embedder)
        .where(_fitting(wanted), log.embedding.is_not(None), log.embedder.is_not(None))
        .group_by(log.embedder)
        .order_by(count.desc(), log.embedder)
        .limit(1)
    )
    with asking():
        async with engine.connect() as connection:
            return str((await connection.execute(found)).scalar() or "")


async def _rows(engine: AsyncEngine, wanted: Wanted) -> AsyncIterator[Row[Any]]:
    """Fitting requests by time, each with the mean of its feedback, in pages that hold no lock between them."""
    log = request_log.c
    said = select(feedback.c.request_id, func.avg(feedback.c.score).label("score")).group_by(feedback.c.request_id)
    judged = said.subquery()
    columns = [log[name] for name in _COLUMNS]
    page: Select[Any] = (
        select(*columns, judged.c.score)
        .select_from(request_log.outerjoin(judged, judged.c.request_id == log.id))
        .where(_fitting(wanted))
        .order_by(log.at, log.id)
        .limit(PAGE_ROWS)
    )
    begin: ColumnElement[bool] | None = None
    while True:
        with asking():
            async with engine.connect() as connection:
                rows = (await connection.execute(page if begin is None else page.where(begin))).all()
        for row in rows:
            yield row
        if len(rows) < PAGE_ROWS:
            return
        last = rows[-1]
        begin = or_(log.at > last.at, and_(log.at == last.at, log.id > last.id))


_COLUMNS: Final = (
    *("id", "at", "category", "model", "endpoint", "router_kind", "strategy", "propensity", "decision", "features"),
    *("embedding", "embedder", "input_tokens", "output_tokens", "cost_nanousd", "total_ms", "prompt"),
)
