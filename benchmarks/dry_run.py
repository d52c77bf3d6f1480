"""Dry runs of a draft: how long one takes, and how often its intervals hold what is true.

    python -m benchmarks.dry_run speed [--rows 50000] [--database-url postgresql://...]
    python -m benchmarks.dry_run coverage [--draws 500] [--rows 1500]

A made-up world of which everything is known: six models whose quality depends on the query (two directions of its
embedding) and whose cost on its length; a policy of kind `rules` that explores with .2 has decided by the gateway's own
code, feedback (0 or 1) came for `--judged` of the requests. The drafts: `thrift` weighs cost ten times as much, `best`
not at all, `learned` asks a router from the shipped artifact. "speed" writes such a log into SQLite or PostgreSQL and
runs the command's own code on it. "coverage" draws logs again and again: how often 95 % intervals of the draft's value
and of its difference to the logged policy held the truth (of a hundred thousand queries), and how often the certified
bound lay above it, which at most 5 % may.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic, perf_counter
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from sqlalchemy import insert

from benchmarks.gateway.machine import facts
from gateway.dispatch.fleet import Fleet
from gateway.dispatch.health import Health
from gateway.ledger.engine import open_engine
from gateway.ledger.schema import upgrade
from gateway.ledger.tables import feedback, request_log
from gateway.lifecycle.dry_run.findings import findings
from gateway.lifecycle.dry_run.replay import Replay, Replayed
from gateway.lifecycle.dry_run.rows import Wanted
from gateway.lifecycle.dry_run.run import dry_run
from gateway.lifecycle.policy_store import ActivePolicy, Artifacts, activate
from gateway.providers.base import Provider, Target
from policies.catalogue import Catalogue
from policies.load import parse_catalogue, parse_policy
from routers.artifact import read_artifact
from routers.choose import choose
from routers.decision import Decision, Features, Query
from routers.inputs import facts_of
from routers.training.support import Needs

Doubles = npt.NDArray[np.float64]
DIMENSIONS: Final = 384
SHIPPED: Final = Path("routers/artifacts/default")
MODELS: Final = (("tiny", 0.1, 0.45), ("small", 0.3, 0.55), ("swift", 0.5, 0.6))
MORE: Final = (("broad", 2.0, 0.7), ("large", 5.0, 0.78), ("great", 15.0, 0.85))
ROW: Final = (
    '[[model]]\nid = "{id}"\ncontext_tokens = 100000\nprior_quality = {prior}\nprice_in_usd_per_mtok = {price}\n'
    'price_out_usd_per_mtok = {out}\nmax_output_tokens = 4000\n[[endpoint]]\nid = "at-{id}"\nmodel = "{id}"\n'
    'provider = "openai"\nbase_url = "http://127.0.0.1:9/v1"\n'
)
BASE: Final = 'schema = 1\nname = "logged"\nmodels = ["*"]\nexploration = {explore}\n[objective]\nquality = 1.0\n'
LOGGED: Final = BASE.format(explore=0.2) + 'cost = 0.5\n[router]\nkind = "rules"\n'
DRAFTS: Final = {
    "thrift": BASE.format(explore=0.0) + 'cost = 5.0\n[router]\nkind = "rules"\n',
    "best": BASE.format(explore=0.0) + 'cost = 0.0\n[router]\nkind = "rules"\n',
    "learned": BASE.format(explore=0.0)
    + f'cost = 0.5\n[router]\nkind = "{{kind}}"\nartifact = "{SHIPPED.resolve()}"\n',
}
NEEDS: Final = Needs()
FIXED: Final[dict[str, Any]] = {
    "route": "chat",
    "policy": "logged",
    "category": "general",
    "strategy": None,
    "status": 200,
    "cache_status": "miss",
    "stream": False,
    "usage_estimated": False,
    "budget_exhausted": False,
    "attempts": [],
    "prompt": None,
}


@dataclass(frozen=True, slots=True)
class World:
    """What is true: directions of quality [M, 2] beside each model's prior."""

    fleet: Fleet
    slopes: Doubles

    def quality(self, contexts: Doubles) -> Doubles:
        """[N, M] of contexts [N, 2]."""
        priors = np.array([card.prior_quality for card in self.fleet.catalogue.model])
        return np.clip(priors + contexts @ self.slopes.T, 0.02, 0.98)


def world() -> World:
    """The same every time."""
    rows = [ROW.format(id=name, price=price, out=3 * price, prior=prior) for name, price, prior in (*MODELS, *MORE)]
    catalogue: Catalogue = parse_catalogue("".join(rows), "world")
    cards = {card.id: card for card in catalogue.model}
    nobody = cast(Provider, object())
    targets = {one.id: Target(one, cards[one.model], nobody) for one in catalogue.endpoint}
    return World(Fleet(catalogue, targets, {}), np.random.default_rng(7).normal(0, 0.12, (len(cards), 2)))


def policy(text: str, known: World) -> ActivePolicy:
    """Built as a gateway builds it."""
    if "{kind}" in text:
        text = text.format(kind=read_artifact(SHIPPED).kind)
    return activate(parse_policy(text, "draft"), "benchmark", known.fleet, Artifacts((), lambda: ""))


def logged(known: World, count: int, seed: int, judged: float, vectors: int = DIMENSIONS) -> list[dict[str, Any]]:
    """Requests as the ledger has them."""
    rng, drawn = np.random.default_rng(seed), Random(seed)
    active = policy(LOGGED, known)
    replay = Replay(active, Health(monotonic))
    embedder = read_artifact(SHIPPED).embedder if vectors == DIMENSIONS else ""
    contexts = rng.normal(size=(count, 2))
    quality = known.quality(contexts)
    place = {card.id: at for at, card in enumerate(known.fleet.catalogue.model)}
    rows = []
    for at in range(count):
        vector = rng.normal(0, 0.3, vectors)
        vector[:2] = contexts[at]
        vector /= np.linalg.norm(vector)
        tokens = int(rng.lognormal(5, 1)) + 10
        features = Features(tokens=tokens, chars=4 * tokens)
        query = Query("", features)
        pool = list(replay.pool_of(features))
        decision = choose(
            active.policy, active.router.kind, query, pool, active.router.forecast(query, pool), "", drawn
        )
        model = decision.chosen.candidate.card
        output = int(rng.lognormal(5, 0.7)) + 5
        good = quality[at, place[model.id]]
        said = float(rng.random() < good) if rng.random() < judged else None
        rows.append(
            {
                **FIXED,
                "id": f"req_{seed:06d}{at:010d}",
                "at": 1.7e9 + at,
                "policy_sha256": active.sha256,
                "model": model.id,
                "endpoint": f"at-{model.id}",
                "router_kind": active.router.kind,
                "propensity": decision.chosen.propensity,
                "decision": _ranking(decision),
                "features": _features(tokens),
                "embedding": vector.astype(np.float16).tobytes(),
                "embedder": embedder,
                "cost_nanousd": model.cost_nanousd(tokens, output),
                "score": said,
            }
        )
    return rows


def _ranking(decision: Decision) -> list[dict[str, Any]]:
    return [
        {
            "endpoint": one.candidate.endpoint.id,
            "model": one.candidate.card.id,
            "quality": round(one.forecast.quality, 4),
            "quality_low": round(one.forecast.quality_low, 4),
            "quality_high": round(one.forecast.quality_high, 4),
            "output_tokens": one.forecast.output_tokens,
            "output_tokens_expected": one.forecast.expected_output_tokens,
            "output_tokens_high": one.forecast.output_tokens_high,
            "latency_ms": 500.0,
            "cost_nanousd": one.cost_nanousd,
            "score": round(one.score, 6),
            "propensity": round(one.propensity, 6),
        }
        for one in decision.ranking
    ]


def _features(tokens: int) -> dict[str, Any]:
    told = {"tokens": tokens, "turns": 1, "language": "en", "code": False, "tools": False, "modalities": ["text"]}
    return told | {"facts": list(facts_of("", tokens, False, False)), "features_version": 1}


def truth(known: World, draft: ActivePolicy, count: int = 100_000) -> tuple[float, float]:
    """A draft's mean quality and cost in USD over fresh queries; of kind `rules`, which looks at lengths only."""
    rng = np.random.default_rng(99)
    contexts = rng.normal(size=(count, 2))
    quality, replay, drawn = known.quality(contexts), Replay(draft, Health(monotonic)), Random(0)
    place = {card.id: at for at, card in enumerate(known.fleet.catalogue.model)}
    written = math.exp(5 + 0.7**2 / 2) + 4.5  # the mean of what `logged` draws, cut to whole tokens
    worth, cost = 0.0, 0.0
    seen: dict[int, Any] = {}
    for at in range(count):
        tokens = int(rng.lognormal(5, 1)) + 10
        decision = seen.get(tokens)
        if decision is None:
            query = Query("", Features(tokens=tokens, chars=4 * tokens))
            pool = replay.pool_of(query.features)
            told = draft.router.forecast(query, pool)
            decision = seen[tokens] = choose(draft.policy, draft.router.kind, query, pool, told, "", drawn)
        for one in decision.ranking:
            if one.propensity:
                card = one.candidate.card
                worth += one.propensity * float(quality[at, place[card.id]])
                prices = card.cost_nanousd(tokens, 0) / 1e9, card.cost_nanousd(0, 1_000_000) / 1e15
                cost += one.propensity * (prices[0] + written * prices[1])
    return worth / count, cost / count


def silent(what: str, share: float) -> None:
    """Nobody looks."""


async def speed(options: argparse.Namespace) -> list[dict[str, object]]:
    """Fill a database once, and run each draft on it."""
    known, rows = world(), []
    with tempfile.TemporaryDirectory(prefix="fingerpost-bench-") as name:
        url = options.database_url or f"sqlite:///{name}/log.sqlite3"
        await asyncio.to_thread(upgrade, url)
        engine = open_engine(url)
        log = logged(known, options.rows, 1, options.judged)
        said = [
            {"request_id": one["id"], "source": "user", "at": one["at"], "score": one["score"], "key_id": "k"}
            for one in log
            if one["score"] is not None
        ]
        async with engine.begin() as connection:
            for begin in range(0, len(log), 500):
                part = [
                    {key: value for key, value in one.items() if key != "score"} for one in log[begin : begin + 500]
                ]
                await connection.execute(insert(request_log), part)
            for begin in range(0, len(said), 2000):
                await connection.execute(insert(feedback), said[begin : begin + 2000])
        del log
        for label, text in DRAFTS.items():
            active = policy(text, known)
            began = perf_counter()
            found = await dry_run(
                engine,
                active,
                Health(monotonic),
                Wanted("logged", options.rows),
                delta=0.05,
                needs=NEEDS,
                watch=silent,
            )
            rows.append({"draft": label, "seconds": round(perf_counter() - began, 2), "verdict": found["verdict"]})
        await engine.dispose()
    return rows


def coverage(options: argparse.Namespace) -> list[dict[str, object]]:
    """How often intervals held."""
    known, rows = world(), []
    base = truth(known, policy(LOGGED, known))
    for label in ("thrift", "best"):
        draft = policy(DRAFTS[label], known)
        real = truth(known, draft)
        held: dict[str, list[bool]] = {}
        refused = 0
        for seed in range(options.draws):
            log = [SimpleNamespace(**one) for one in logged(known, options.rows, seed, options.judged, vectors=8)]
            replayed = Replayed()
            Replay(draft, Health(monotonic)).take(log, replayed)
            found = findings(replayed, draft.policy, delta=0.05, needs=NEEDS, dearest_usd=0.2, watch=silent)
            for name, value, before in zip(("quality", "cost_usd"), real, base, strict=True):
                one = found["estimates"][name]
                if "refused" in one:
                    refused += 1
                    continue
                for method in ("ips", "snips", "dr", "betting"):
                    told = one["draft"][method]
                    held.setdefault(f"{name} {method}", []).append(told["low"] <= value <= told["high"])
                apart = one["difference"]
                held.setdefault(f"{name} difference", []).append(apart["low"] <= value - before <= apart["high"])
                held.setdefault(f"{name} certified", []).append(apart["surely_above"] <= value - before)
        shares = {name: round(sum(each) / len(each), 3) for name, each in held.items()}
        rows.append({"draft": label, "draws": options.draws, "refused": refused, **shares})
    return rows


def shown(rows: Sequence[dict[str, object]]) -> None:
    """One figure a line."""
    for row in rows:
        for name, value in row.items():
            print(f"{name}: {value}")
        print()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "coverage"))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--judged", type=float, default=0.5)
    parser.add_argument("--database-url")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.rows = options.rows or (50_000 if options.what == "speed" else 1500)
    rows = asyncio.run(speed(options)) if options.what == "speed" else coverage(options)
    if options.json:
        print(json.dumps({"machine": facts(), "rows": rows}, indent=2))
    else:
        shown(rows)


if __name__ == "__main__":
    main()
