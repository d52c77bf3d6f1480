"""The protocols by which routers are judged: splits by question, unseen tasks, new models, an unseen folder.

Each gives rounds that `routers.training.summary` makes rows of; none looks at a test side before judging it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from routers.learned import LearnedRouter
from routers.training.caution import Caution
from routers.training.choices import Bench, Taken, card_cost, choose_all, forecast_cost, prompt_tokens, taken
from routers.training.dataset import Dataset
from routers.training.judge import Judged, Round, Watch, fit_all, judge_round
from routers.training.metrics import brier
from routers.training.splits import by_group, leave_models_out, leave_tasks_out

SHOTS = (0, 4, 16, 64)
SEEN_POOL = ", seen pool only"
RETRAINED = ", trained anew with all"

Fitted = Mapping[str, tuple[LearnedRouter, float]]


def unwatched(what: str, share: float) -> None:
    """The progress that nobody looks at."""


def judge_splits(
    data: Dataset, kinds: Sequence[str], seeds: Sequence[int], watch: Watch = unwatched, caution: Caution | None = None
) -> list[Round]:
    """One round a seed: 70 % of the questions to train on, 10 % to tune on, 20 % to judge on."""
    rounds = []
    for seed in seeds:
        first, second, last = by_group(data, seed)
        fitted, refused = fit_all(kinds, data.rows(first), data.rows(second), seed, watch)
        known = data.rows(np.sort(np.concatenate([first, second])))
        rounds.append(
            judge_round(f"seed {seed}", known, data.rows(last), fitted, whole=data, refused=refused, caution=caution)
        )
    return rounds


def judge_unseen_tasks(
    data: Dataset, kinds: Sequence[str], seeds: Sequence[int], watch: Watch = unwatched, caution: Caution | None = None
) -> list[Round]:
    """One round for each task and seed: trained on the other tasks, judged on all of it."""
    rounds = []
    for seed in seeds:
        for task, rest, rows in leave_tasks_out(data, seed):
            train, validation = _tuned_apart(data.rows(rest), seed)
            fitted, refused = fit_all(kinds, train, validation, seed, watch)
            known, test = data.rows(rest), data.rows(rows)
            rounds.append(
                judge_round(f"{task}, seed {seed}", known, test, fitted, whole=data, refused=refused, caution=caution)
            )
    return rounds


@dataclass(frozen=True, slots=True)
class NewModels:
    """Rounds by number of labels; each router is there alone and on the pool without the new models."""

    held: int
    rounds: Mapping[int, Sequence[Round]]


def judge_new_models(
    data: Dataset,
    kinds: Sequence[str],
    seeds: Sequence[int],
    count: int,
    shots: Sequence[int] = SHOTS,
    watch: Watch = unwatched,
) -> NewModels:
    """Hold `count` models out of training, give back `shots` labelled queries of each, judge the enlarged pool."""
    rounds: dict[int, list[Round]] = {shot: [] for shot in shots}
    for seed in seeds:
        train, validation, test = (data.rows(rows) for rows in by_group(data, seed))
        kept, held = leave_models_out(data, count, seed)
        known = train.columns(kept)
        fitted, refused = fit_all(kinds, known, validation.columns(kept), seed, watch)
        again, _ = fit_all(kinds, train, validation, seed, watch)
        order = np.random.default_rng(seed).permutation(len(train))
        for shot in shots:
            few = train.columns(held).rows(order[:shot])
            ready = with_labels(fitted, few)
            every = {**ready, **{name + RETRAINED: one for name, one in again.items()}}
            name = f"seed {seed}, {shot} labels"
            made = judge_round(name, known, test, every, whole=data, refused=refused, labelled=few)
            rounds[shot].append(_with_seen_pool(made, every, ready, held))
    return NewModels(count, rounds)


def with_labels(fitted: Fitted, labelled: Dataset) -> dict[str, tuple[LearnedRouter, float]]:
    """The same routers knowing a few outcomes more."""
    if not len(labelled):
        return dict(fitted)
    return {name: (router.with_outcomes(labelled), seconds) for name, (router, seconds) in fitted.items()}


def first_labels(labelled: Dataset, models: Sequence[str], shots: int) -> Dataset:
    """The first so many outcomes of each of some models, in the order of the rows; the other cells are forgotten."""
    columns = [place for place, card in enumerate(labelled.models) if card.id in set(models)]
    few = labelled.columns(columns)
    keep = few.observed & (few.observed.cumsum(axis=0) <= shots)
    rows = np.flatnonzero(keep.any(axis=1))
    score = np.where(keep, few.score, np.float32(np.nan))
    return replace(few, score=score).rows(rows)


@dataclass(frozen=True, slots=True)
class Unseen:
    """An unseen data set with what may be known about it: other data to train on, artifacts, labels of new models.

    Without `train` no kind is trained, and what is known of single models is what the first artifact learned of them.
    """

    test: Dataset
    train: Dataset | None
    artifacts: Mapping[str, LearnedRouter]
    labelled: Dataset | None = None


def judge_unseen(
    unseen: Unseen,
    kinds: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int],
    watch: Watch = unwatched,
    caution: Caution | None = None,
) -> dict[int, list[Round]]:
    """Rounds by number of labels for each new model: kinds are trained on the training data, artifacts used as is.

    Questions of the test that are in the training data or among the labels are not judged; `ValueError` if none is
    left.
    """
    known = known_by(next(iter(unseen.artifacts.values())), unseen.test) if unseen.train is None else unseen.train
    new = _unknown(unseen.test, known)
    test = _without(unseen.test, [known, *([unseen.labelled] if unseen.labelled is not None else [])])
    rounds: dict[int, list[Round]] = {shot: [] for shot in shots}
    for seed in seeds:
        fitted: dict[str, tuple[LearnedRouter, float]] = {}
        refused: dict[str, str] = {}
        if unseen.train is not None:
            train, validation = _tuned_apart(unseen.train, seed)
            fitted, refused = fit_all(kinds, train, validation, seed, watch)
        fitted |= {name: (router, 0.0) for name, router in unseen.artifacts.items()}
        for shot in shots:
            few = first_labels(unseen.labelled, new, shot) if shot and unseen.labelled is not None else None
            ready = fitted if few is None else with_labels(fitted, few)
            name = f"seed {seed}, {shot} labels"
            made = judge_round(name, known, test, ready, refused=refused, caution=caution, labelled=few)
            rounds[shot].append(_with_brier_of(made, ready, _columns_of(test, new)))
    return rounds


def known_by(router: LearnedRouter, test: Dataset) -> Dataset:
    """What a router says of the models that it was trained with whatever is asked, as one row of outcomes.

    It stands for training data that is not at hand: the best single model is then the router's own.
    """
    one = test.rows(np.zeros(1, dtype=np.intp))
    told = router.predict(one.inputs, test.models)
    names = router.artifact.data.get("models", router.artifact.facts.get("models", ()))
    learned = {str(name) for name in names} if isinstance(names, list | tuple) else set()
    seen = np.array([card.id in learned for card in test.models])
    nothing = np.full((1, len(test.models)), np.nan, dtype=np.float32)
    tokens = np.full(nothing.shape, np.median(prompt_tokens(test)), dtype=np.float32)
    return replace(
        one,
        name=f"what {router.kind} learned",
        groups=np.full(1, -1, dtype=np.intp),
        tasks=("",),
        score=np.where(seen, told.usual, np.nan)[None].astype(np.float32),
        input_tokens=nothing,
        output_tokens=nothing,
        latency_s=nothing,
        cost_usd=card_cost(test.models, tokens, told.usual_tokens[None]),
    )


def _unknown(test: Dataset, known: Dataset) -> list[str]:
    """Models without any outcome in what is known."""
    seen = {
        card.id
        for card, any_of in zip(known.models, np.asarray(known.observed.any(axis=0)).tolist(), strict=True)
        if any_of
    }
    return [card.id for card in test.models if card.id not in seen]


def _without(test: Dataset, others: Sequence[Dataset]) -> Dataset:
    seen = np.concatenate([one.groups for one in others]) if others else np.zeros(0, dtype=np.intp)
    rows = np.flatnonzero(~np.isin(test.groups, seen) & test.observed.any(axis=1))
    if not len(rows):
        raise ValueError(
            f"{test.name}: every question is in the training data or the labels: bring other data to judge"
        )
    return test.rows(rows)


def _tuned_apart(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Seven eighths of the questions to train on, the rest to tune on."""
    train, validation, _ = by_group(data, seed, (0.875, 0.125, 0.0))
    return data.rows(train), data.rows(validation)


def _columns_of(data: Dataset, models: Sequence[str]) -> list[int]:
    return [place for place, card in enumerate(data.models) if card.id in set(models)]


def _with_seen_pool(made: Round, every: Fitted, ready: Fitted, held: Sequence[int]) -> Round:
    """The round with each router also choosing among the models that it was trained with only."""
    judged = dict(_with_brier_of(made, every, held).routers)
    for name, took in _seen_pool(made.bench, ready, held):
        judged[name + SEEN_POOL] = Judged(took)
    return replace(made, routers=judged)


def _seen_pool(bench: Bench, ready: Fitted, held: Sequence[int]) -> Iterator[tuple[str, Taken]]:
    allowed = bench.observed.copy()
    allowed[:, list(held)] = False
    for name, (router, _) in ready.items():
        told = router.predict(bench.test.inputs, bench.test.models)
        cost = forecast_cost(told, bench.test.models, prompt_tokens(bench.test))
        yield name, taken(bench, choose_all(told.quality, cost, bench.weights, allowed))


def _with_brier_of(made: Round, routers: Fitted, columns: Sequence[int]) -> Round:
    """The round with the error of forecasts for some models apart."""
    if not columns:
        return made
    test = made.bench.test.columns(columns)
    judged = dict(made.routers)
    for name, (router, _) in routers.items():
        told = router.predict(test.inputs, test.models)
        figures = {**judged[name].figures, "brier_new": brier(told.quality, test.score)}
        judged[name] = replace(judged[name], figures=figures)
    return replace(made, routers=judged)
