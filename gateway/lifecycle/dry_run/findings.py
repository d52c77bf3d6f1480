"""What a dry run found, as plain JSON values: which decisions change, what that is forecast to cost, and what the logs
prove of it. Claims nothing where the logs never tried what the draft would do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.lifecycle.dry_run.replay import Case, Replayed
from policies.schema import Policy
from routers.training.logs import Logs
from routers.training.offpolicy import Comparison, Estimates, NoSupport, compare, evaluate
from routers.training.support import Needs

Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Watch = Callable[[str, float], None]
EXAMPLES: Final = 20
_ROUNDING: Final = 1e-12
MOST_PAIRS: Final = 30
# Intervals of so many rows are as good with fewer resamples.
MANY_ROWS: Final = 5000
RESAMPLES: Final = (1000, 200)


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Cases as arrays over [N] rows and [M] models."""

    models: tuple[str, ...]
    logged: Doubles
    drafted: Doubles
    asked: npt.NDArray[np.intp]
    score: Doubles
    cost_usd: Doubles
    groups: npt.NDArray[np.intp]

    @property
    def propensity(self) -> Doubles:
        """[N] of who was asked."""
        found: Doubles = self.logged[np.arange(len(self.asked)), self.asked]
        return found


def findings(
    replayed: Replayed, policy: Policy, *, delta: float, needs: Needs, dearest_usd: float, watch: Watch
) -> dict[str, Any]:
    """Everything; intervals hold with 1 - delta. `dearest_usd` bounds what one call can cost."""
    cases = replayed.cases
    found: dict[str, Any] = {
        "rows": replayed.rows,
        "decided": len(cases),
        "left_out": dict(sorted(replayed.left_out.items())),
        "without_text": sum(one.without_text for one in cases),
        "delta": delta,
    }
    if not cases:
        return {**found, "verdict": f"Nothing can be said: {_none_fit(replayed)}."}
    table = _table(cases)
    watch("comparing decisions", 0.0)
    found["changes"] = _changes(cases, table)
    found["forecast"] = _forecast(cases)
    supported, found["support"] = _support(cases, table, needs)
    found["estimates"] = _estimates(replayed, table, supported, policy, delta, needs, dearest_usd, watch)
    found["verdict"] = verdict(found)
    return found


def _table(cases: Sequence[Case]) -> _Table:
    models = tuple(sorted({model for one in cases for model in (*one.logged, *one.drafted)}))
    place = {model: at for at, model in enumerate(models)}
    logged, drafted = np.zeros((2, len(cases), len(models)))
    for row, one in enumerate(cases):
        for given, into in ((one.logged, logged), (one.drafted, drafted)):
            for model, share in given.items():
                into[row, place[model]] = share
    logged /= logged.sum(axis=1, keepdims=True)
    drafted /= drafted.sum(axis=1, keepdims=True)
    return _Table(
        models,
        logged,
        drafted,
        np.array([place[one.asked] for one in cases], dtype=np.intp),
        np.array([np.nan if one.score is None else one.score for one in cases]),
        np.array([np.nan if one.cost_usd is None else one.cost_usd for one in cases]),
        np.array([one.group for one in cases], dtype=np.intp),
    )


def _changes(cases: Sequence[Case], table: _Table) -> dict[str, Any]:
    """By each decision's likeliest model; `expected_share` is the chance that a request is asked of another model."""
    before, after = table.logged.argmax(axis=1), table.drafted.argmax(axis=1)
    moved = before != after
    pairs = Counter(zip(before[moved].tolist(), after[moved].tolist(), strict=True))
    by_category: dict[str, list[int]] = {}
    for one, changed in zip(cases, moved, strict=True):
        counts = by_category.setdefault(one.new_category, [0, 0])
        counts[0] += 1
        counts[1] += bool(changed)
    examples = [
        {"request_id": cases[row].id, "from": table.models[before[row]], "to": table.models[after[row]]}
        for row in np.flatnonzero(moved)[:EXAMPLES]
    ]
    return {
        "share": float(moved.mean()),
        "expected_share": float(np.abs(table.logged - table.drafted).sum(axis=1).mean() / 2),
        "recategorised": sum(one.category != one.new_category for one in cases),
        "pairs": [
            {"from": table.models[a], "to": table.models[b], "count": count}
            for (a, b), count in pairs.most_common(MOST_PAIRS)
        ],
        "by_category": {
            name: {"decided": all_of, "changed": changed} for name, (all_of, changed) in sorted(by_category.items())
        },
        "models": {
            model: {"before": float(table.logged[:, at].mean()), "after": float(table.drafted[:, at].mean())}
            for at, model in enumerate(table.models)
        },
        "examples": examples,
    }


def _forecast(cases: Sequence[Case]) -> dict[str, Any]:
    """What the draft's own forecasts say of both ways to decide, where it has one of every model of then."""
    known = [one for one in cases if all(model in one.told for model, share in one.logged.items() if share > 0)]
    if not known:
        return {"decided": 0}
    means: dict[str, float] = {}
    for at, name in enumerate(("quality", "cost_usd")):
        for when, shares in (("before", "logged"), ("after", "drafted")):
            each = (_expected(getattr(one, shares), one.told, at) for one in known)
            means[f"{name}_{when}"] = sum(each) / len(known)
    return {"decided": len(known), **means}


def _expected(shares: Mapping[str, float], told: Mapping[str, tuple[float, float]], at: int) -> float:
    return sum(share * told[model][at] for model, share in shares.items() if share > 0)


def _support(cases: Sequence[Case], table: _Table, needs: Needs) -> tuple[Bools, dict[str, Any]]:
    """Which requests' every choice was tried then; known beforehand, so that they may be judged by themselves."""
    missing = table.drafted * (table.logged < needs.floor)
    lacking = missing.sum(axis=1)
    supported = lacking <= 0
    categories: dict[str, list[float]] = {}
    for one, lack in zip(cases, lacking, strict=True):
        categories.setdefault(one.new_category, []).append(float(lack > 0))
    shares = missing.mean(axis=0)
    return supported, {
        "unsupported_traffic": float((~supported).mean()),
        "unsupported_choices": float(lacking.mean()),
        "floor": needs.floor,
        "by_category": {name: sum(each) / len(each) for name, each in sorted(categories.items())},
        "never_tried": {table.models[at]: float(shares[at]) for at in np.argsort(-shares) if shares[at] > 0},
    }


def _estimates(
    replayed: Replayed,
    table: _Table,
    supported: Bools,
    policy: Policy,
    delta: float,
    needs: Needs,
    dearest_usd: float,
    watch: Watch,
) -> dict[str, Any]:
    """Quality, cost and worth on traffic with support: of the draft, and how much more than what was logged."""
    weight = policy.objective.cost / policy.objective.cost_scale_usd
    cost = np.minimum(table.cost_usd, dearest_usd)
    worth = policy.objective.quality * table.score - (weight * cost if weight else 0.0)
    asked: dict[str, tuple[Doubles, tuple[float, float]]] = {
        "quality": (table.score, (0.0, 1.0)),
        "cost_usd": (cost, (0.0, max(dearest_usd, 1e-12))),
        "worth": (worth, (-weight * dearest_usd - 1e-9, policy.objective.quality + 1e-9)),
    }
    contexts, found = replayed.contexts(), {}
    for step, (name, (reward, bounds)) in enumerate(asked.items()):
        watch(f"estimating {name.removesuffix('_usd')}", step / len(asked))
        kept = supported & np.isfinite(reward)
        found[name] = _estimate(table, contexts, reward, bounds, kept, delta, needs)
    return found


def _estimate(
    table: _Table,
    contexts: npt.NDArray[np.float32],
    reward: Doubles,
    bounds: tuple[float, float],
    kept: Bools,
    delta: float,
    needs: Needs,
) -> dict[str, Any]:
    rows = int(kept.sum())
    if rows < 2:
        return {"rows": rows, "refused": f"{rows} requests with support have this figure, at least 2 are needed"}
    logs = Logs(
        models=table.models,
        contexts=contexts[kept],
        chosen=table.asked[kept],
        propensity=table.propensity[kept],
        reward=reward[kept],
        logged=table.logged[kept],
        groups=table.groups[kept],
        bounds=bounds,
    )
    told: dict[str, Any] = {"rows": rows, "logged_mean": float(reward[kept].mean())}
    resamples = RESAMPLES[rows > MANY_ROWS]
    try:
        of = evaluate(logs, table.drafted[kept], delta=delta, needs=needs, resamples=resamples)
        apart = compare(logs, table.drafted[kept], table.logged[kept], delta=delta, needs=needs, resamples=resamples)
    except NoSupport as error:
        return {**told, "refused": str(error), "effective_rows": error.support.effective_rows}
    return {**told, **_told(of, apart, bounds[1] - bounds[0])}


def _told(of: Estimates, apart: Comparison, width: float) -> dict[str, Any]:
    """What is nothing but rounding counts as no difference."""
    none = all(abs(end) < _ROUNDING * width for end in asdict(apart.difference).values())
    difference = dict.fromkeys(asdict(apart.difference), 0.0) if none else asdict(apart.difference)
    return {
        "effective_rows": of.support.effective_rows,
        "draft": {name: asdict(getattr(of, name)) for name in ("ips", "snips", "direct", "dr", "betting")},
        "difference": {**difference, "surely_above": apart.low},
    }


def verdict(found: Mapping[str, Any]) -> str:
    """Plain words, for those who decide."""
    changed, lacking = found["changes"]["expected_share"], found["support"]["unsupported_traffic"]
    said = [f"{changed:.1%} of {found['decided']} requests would be asked of another model."]
    if lacking:
        tried = ", ".join(f"'{name}'" for name in list(found["support"]["never_tried"])[:3])
        said.append(
            f"Nothing is claimed of {lacking:.1%} of traffic: there the draft would ask models that were never or"
            f" hardly tried then ({tried}). Explore, or run it as a canary."
        )
    where = "on the rest " if lacking else ""
    for name, words in (("quality", "quality"), ("cost_usd", "cost")):
        said.append(_said(found["estimates"][name], words, where))
    return " ".join(said)


def _said(one: Mapping[str, Any], words: str, where: str) -> str:
    if "refused" in one:
        return f"No number for {words} {where}({one['refused']}).".replace("  ", " ")
    apart = one["difference"]
    low, high = apart["low"], apart["high"]
    sure = "no difference is proved" if low <= 0 <= high else "higher" if low > 0 else "lower"
    return (
        f"Estimated {words} {where}changes by {apart['value']:+.4g} ({low:+.4g} to {high:+.4g}, from"
        f" {one['logged_mean']:.4g}): {sure}."
    )


def _none_fit(replayed: Replayed) -> str:
    if not replayed.rows:
        return "no request of this policy is logged in that time"
    return ", ".join(f"{count} {reason}" for reason, count in replayed.left_out.items())
