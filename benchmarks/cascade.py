"""Cascades against single calls on real outcomes: quality-cost curves, paired bootstrap, several seeds.

    python -m benchmarks.cascade DATA/zeroeval DATA/mmlupro [--base logistic] [--seeds 5] [--verifier 0.6 0.7 0.8 1]

`DATA/...` are folders of outcomes as docs/data.md describes them. With --verifier a *simulated* verifier of so good an
AUC is added to the signals that the data has (an answer's length): that is no measurement, it shows what one must be
worth before rounds pay. --plot FOLDER draws the curves.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from local_runtime.embedders.find import load_embedder
from routers.cascade_value import CascadeValue
from routers.find import router_class
from routers.learned import LearnedRouter
from routers.training.bootstrap import curves, differences, resample
from routers.training.cascade.baselines import FixedOrders, Result, Votes, one_call, own_scores
from routers.training.cascade.board import Board, Rules
from routers.training.cascade.learn import Plan, learn, plays
from routers.training.cascade.signals import simulated_verifier
from routers.training.cascade.train import Arm, best_arm, halves, prepare
from routers.training.choices import Bench, Taken, bench_of, taken_by
from routers.training.dataset import Dataset, Doubles, Embed, Indices
from routers.training.embedding_cache import cached
from routers.training.metrics import aiq
from routers.training.read import read_folder
from routers.training.references import references
from routers.training.splits import by_group

RESAMPLES = 1_000
ONE_CALL, CASCADE, ROUNDS, ORDER = "one call", "cascade as trained", "cascade, rounds forced", "fixed order"
VOTE = "fixed vote of three, lower bound"
FORCED = Arm(3, 1.0, 0.04)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--base", default="logistic", help="kind of the router whose forecasts the cascade starts from")
    parser.add_argument(
        "--others", nargs="*", default=["mean", "knn", "ridge"], help="kinds that are also judged by one call"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--verifier", nargs="*", type=float, default=[], help="AUC of a simulated verifier")
    parser.add_argument("--embedder", default="minilm_onnx")
    parser.add_argument("--models", type=Path, default=Path("models"), help="where the embedder's weights are")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "fingerpost-embeddings")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    embedder = load_embedder(given.embedder, given.models, 1)
    embed = cached(lambda texts: embedder.embed(list(texts)), embedder.id, given.cache)
    found = {}
    for folder in given.folders:
        for auc in (None, *given.verifier):
            data = read(folder, embed, embedder.id)
            name = data.name if auc is None else f"{data.name}, SIMULATED verifier of AUC {auc:g}"
            rounds = [judge(data, given.base, given.others, seed, auc) for seed in range(given.seeds)]
            found[name] = table(rounds)
            print(shown(name, given.base, found[name]), flush=True)
            if given.plot:
                draw(rounds[0], name, given.plot)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


def read(folder: Path, embed: Embed, embedder: str) -> Dataset:
    """A set without the few queries that not every model was asked: a cascade needs every answer."""
    data = read_folder(folder, embed, embedder)
    return data.rows(np.flatnonzero(data.observed.all(axis=1)))


class Judged:
    """One split: its bench, the test rows' groups, what each contestant's choices were worth, and notes."""

    def __init__(self, bench: Bench, groups: Indices) -> None:
        self.bench, self.groups = bench, groups
        self.taken: dict[str, Taken] = {}
        self.calls: dict[str, Doubles] = {}
        self.arm: Mapping[str, object] = {}

    def add(self, name: str, act: Callable[[float], Result]) -> None:
        """Ask a contestant at every weight of cost; close with the cheapest and the dearest model, as benches do."""
        told = [act(float(weight)) for weight in self.bench.weights]
        ends = [self.bench.cheapest, self.bench.dearest]
        self.taken[name] = Taken(
            np.vstack([*(score for score, _ in told), self.bench.score[:, ends].T]),
            np.vstack([*(cost for _, cost in told), self.bench.cost[:, ends].T]),
        )

    def add_kind(self, kind: str, train: Dataset, validation: Dataset, seed: int) -> None:
        """One call by the forecasts of another kind."""
        test = self.bench.test
        told = learned(kind).fit(train, validation=validation, seed=seed).predict(test.inputs, test.models)
        self.taken[f"{ONE_CALL}, {kind}"] = taken_by(self.bench, told)

    def add_arm(self, name: str, arm: Arm, value: CascadeValue, board: Board) -> None:
        """A cascade, and how many calls it makes at each weight."""
        calls = []

        def act(weight: float) -> Result:
            played = plays(arm.value(value), board, weight, Rules(arm.rounds, arm.margin))
            calls.append(float(played.calls.mean()))
            return played.score, played.paid_usd

        self.add(name, act)
        self.calls[name] = np.array(calls)


def judge(data: Dataset, base: str, others: Sequence[str], seed: int, auc: float | None) -> Judged:
    """Fit everything on one split and play it on the test side."""
    begun = perf_counter()
    train, validation, test = (data.rows(rows) for rows in by_group(data, seed))
    ready = prepare(learned(base), train, validation, seed)
    board, unseen = ready.board, ready.board_of(test)
    if auc is not None:
        board = board.with_hints(simulated_verifier(board.score, auc, seed))
        unseen = unseen.with_hints(simulated_verifier(unseen.score, auc, seed + 1000))
    value = learn(board, Plan(), seed)
    arm, figures = best_arm(board, halves(train.groups, seed), Plan(), seed)
    made = Judged(bench_of(test, data), test.groups)
    known = references(train, made.bench)
    made.taken |= {name: known[name] for name in ("best single", "cheapest", "dearest", "oracle (leaky)")}
    made.add(ONE_CALL, lambda weight: one_call(unseen, weight))
    for kind in others:
        made.add_kind(kind, train, validation, seed)
    sure, votes = own_scores(value, unseen), Votes.on(board)
    orders = FixedOrders(board, own_scores(value, board))
    made.add(ORDER, lambda weight: orders.best(weight).apply(unseen, sure))
    made.add(VOTE, lambda weight: votes.best(weight).apply(unseen))
    made.add_arm(CASCADE, arm, value, unseen)
    made.add_arm(ROUNDS, FORCED, value, unseen)
    made.arm = {**figures, "seconds": round(perf_counter() - begun)}
    return made


def learned(kind: str) -> type[LearnedRouter]:
    """A kind that learns."""
    found = router_class(kind)
    if not issubclass(found, LearnedRouter):
        raise SystemExit(f"router kind '{kind}' learns nothing from data")
    return found


def figures(bench: Bench, taken: Taken, weights: Doubles | None = None) -> dict[str, Doubles]:
    """AIQ over log cost, best score, and the mean over the ladder of score less weighted cost, of each resample."""
    cost, score = curves(taken, None if weights is None else weights.astype(np.float32))
    part, traced = bench.ladder, bench.traced
    worth = score[:, part] - np.minimum(bench.weights[part] * cost[:, part], 1)
    area = aiq(cost[:, traced], score[:, traced], cost[:, -2], cost[:, -1])
    return {"aiq": area, "best": score[:, part].max(axis=1), "worth": worth.mean(axis=1)}


def table(rounds: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """Each contestant's means over the splits, and its paired differences to one call and to the best single model."""
    drawn = resample([one.groups for one in rounds], 0, RESAMPLES)
    plain = {name: [figures(one.bench, one.taken[name]) for one in rounds] for name in rounds[0].taken}
    spread = {
        name: [
            figures(one.bench, one.taken[name], row.astype(np.float64)) for one, row in zip(rounds, drawn, strict=True)
        ]
        for name in rounds[0].taken
    }
    found: dict[str, dict[str, Any]] = {}
    for name, told in plain.items():
        row: dict[str, Any] = {key: round(float(np.mean([one[key][0] for one in told])), 4) for key in told[0]}
        for against in (ONE_CALL, "best single"):
            means = {
                key: float(np.mean([a[key][0] - b[key][0] for a, b in zip(told, plain[against], strict=True)]))
                for key in told[0]
            }
            intervals = differences(spread[name], spread[against], means)
            row[f"minus {against}"] = {
                key: [round(x, 4) for x in (one.mean, one.low, one.high)] for key, one in intervals.items()
            }
        if name in rounds[0].calls:
            row["calls"] = [round(float(x), 2) for x in np.mean([one.calls[name] for one in rounds], axis=0)[::8]]
        found[name] = row
    found["arms"] = {str(seed): dict(one.arm) for seed, one in enumerate(rounds)}
    return found


def shown(name: str, base: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table."""
    lines = [
        f"\n### {name} (base {base})\n",
        "| contestant | AIQ (log cost) | minus one call, 95 % | minus best single, 95 % | worth minus one call, 95 % |",
        "|---|---|---|---|---|",
    ]
    for row, told in found.items():
        if row == "arms":
            continue
        one, single = told[f"minus {ONE_CALL}"], told["minus best single"]
        cells = (_interval(one["aiq"]), _interval(single["aiq"]), _interval(one["worth"]))
        lines.append(f"| {row} | {told['aiq']:.4f} | {' | '.join(cells)} |")
    lines += [f"\nseed {seed}: {arm}" for seed, arm in found["arms"].items()]
    return "\n".join(lines)


def _interval(told: Sequence[float]) -> str:
    return f"{told[0]:+.4f} [{told[1]:+.4f}, {told[2]:+.4f}]"


def draw(one: Judged, name: str, folder: Path) -> None:
    """Quality over log cost of the first split, as SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for label, taken in one.taken.items():
        cost, score = (each[0] for each in curves(taken))
        fixed = label in {"cheapest", "dearest"}
        axes.plot(
            cost[:1] if fixed else cost, score[:1] if fixed else score, "o" if fixed else "-", label=label, markersize=4
        )
    axes.set(xscale="log", xlabel="mean cost of a request, US dollars", ylabel="mean score", title=name)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / f"cascade-{one.bench.test.name}{'-simulated' if ',' in name else ''}.svg")
    pyplot.close(figure)


if __name__ == "__main__":
    main()
