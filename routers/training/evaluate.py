"""The protocols by which routers are judged: splits by question, unseen tasks, new models, an unseen folder.

Each gives rounds that `routers.training.summary` makes rows of; none looks at a test side before judging it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from routers.learned import LearnedRouter
from routers.training.caution import Caution
from routers.training.choices import Bench, Mask, Taken, card_cost, choose_all, forecast_cost, prompt_tokens, taken
from routers.training.dataset import Dataset
from routers.training.fingerprints import learned_by
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
    """Rounds by number of labels; each router is there alone and on the pool without the new models.

    `labels` are how many each held model really got, which is less where it was not asked so often.
    """

    held: int
    rounds: Mapping[int, Sequence[Round]]
    labels: Mapping[int, Sequence[int]]


def judge_new_models(
    data: Dataset,
    kinds: Sequence[str],
    seeds: Sequence[int],
    count: int,
    shots: Sequence[int] = SHOTS,
    watch: Watch = unwatched,
    caution: Caution | None = None,
    named: Sequence[str] = (),
) -> NewModels:
    """Hold `count` models out of training, or those named, give back `shots` labelled queries of each, and judge the
    enlarged pool."""
    rounds: dict[int, list[Round]] = {shot: [] for shot in shots}
    counts: dict[int, list[int]] = {shot: [] for shot in shots}
    for seed in seeds:
        train, validation, test = (data.rows(rows) for rows in by_group(data, seed))
        kept, held = leave_models_out(data, count, seed, named)
        known = train.columns(kept)
        fitted, refused = fit_all(kinds, known, validation.columns(kept), seed, watch)
        again, _ = fit_all(kinds, train, validation, seed, watch)
        for shot in shots:
            few = first_labels(train, [train.models[place].id for place in held], shot, seed)
            counts[shot] += few.observed.sum(axis=0).tolist()
            ready = with_labels(fitted, few)
            every = {**ready, **{name + RETRAINED: one for name, one in again.items()}}
            name = f"seed {seed}, {shot} labels"
            made = judge_round(name, known, test, every, whole=data, refused=refused, caution=caution, labelled=few)
            rounds[shot].append(_with_seen_pool(made, every, ready, held))
    return NewModels(len(held), rounds, counts)


def with_labels(fitted: Fitted, labelled: Dataset) -> dict[str, tuple[LearnedRouter, float]]:
    """The same routers knowing a few outcomes more."""
    if not len(labelled):
        return dict(fitted)
    return {name: (router.with_outcomes(labelled), seconds) for name, (router, seconds) in fitted.items()}


def first_labels(labelled: Dataset, models: Sequence[str], shots: int, seed: int) -> Dataset:
    """So many outcomes of each of some models, of queries in an order that the seed draws; all others are forgotten."""
    columns = [place for place, card in enumerate(labelled.models) if card.id in set(models)]
    few = labelled.columns(columns).rows(np.random.default_rng(seed).permutation(len(labelled)))
    keep = few.observed & (few.observed.cumsum(axis=0) <= shots)
    return few.only(keep).rows(np.flatnonzero(keep.any(axis=1)))


@dataclass(frozen=True, slots=True)
class Unseen:
    """An unseen data set with what may be known about it: other data to train on, artifacts, labels of new models.

    Without `train` no kind is trained, and what is known of single models is what the first artifact learned of them.
    """

    test: Dataset
    train: Dataset | None
    artifacts: Mapping[str, LearnedRouter]
    labelled: Dataset | None = None

    def known(self) -> Dataset:
        """What the references choose from."""
        return known_by(next(iter(self.artifacts.values())), self.test) if self.train is None else self.train

    def new_models(self) -> list[str]:
        """Models of the test without any outcome in what is known."""
        seen = _judged_models(self.known())
        return [card.id for card in self.test.models if card.id not in seen]

    def label_counts(self) -> list[int]:
        """How many labels there are of each new model."""
        if self.labelled is None:
            return []
        counts = dict(zip((card.id for card in self.labelled.models), self.labelled.observed.sum(axis=0), strict=True))
        return [int(counts.get(name, 0)) for name in self.new_models()]

    def left_out(self) -> dict[str, Mask]:
        """Which queries of the test are not judged [Q], by the reason; labelled ones are not among them.

        `ValueError` for an artifact that learned from the very test and can't say from which part of it.
        """
        found = {}
        if self.train is not None:
            found[f"{self.train.name} has their questions"] = np.isin(self.test.groups, self.train.groups)
        for name, router in self.artifacts.items():
            learned = learned_by(router.artifact, self.test)
            if learned is not None:
                found[f"{name} learned from their questions"] = learned
            elif router.artifact.data.get("sha256") == self.test.sha256():
                raise ValueError(f"{name} learned from {self.test.name} itself: bring other data to judge it on")
        return {why: which for why, which in found.items() if which.any()}

    def notes(self) -> list[str]:
        """What was given and is not used, and what can't be known."""
        found = [f"{which.sum()} of {len(which)} queries left out: {why}" for why, which in self.left_out().items()]
        for name, router in self.artifacts.items():
            if learned_by(router.artifact, self.test) is None:
                found.append(f"{name} does not say from which questions it learned: some may be judged here")
        if self.labelled is not None:
            unused = sorted(_judged_models(self.labelled) - set(self.new_models()))
            found += [f"labels not used, since only new models get any: those of {', '.join(unused)}"] if unused else []
        return found


def judge_unseen(
    unseen: Unseen,
    kinds: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int],
    watch: Watch = unwatched,
    caution: Caution | None = None,
) -> dict[int, list[Round]]:
    """Rounds by number of labels for each new model: kinds are trained on the training data, artifacts used as is.

    Questions of the test that were learned from are not judged, nor those of the labels that a seed draws, were it for
    its largest number of them; `ValueError` if none is left.
    """
    known, new = unseen.known(), unseen.new_models()
    fresh = _without(unseen.test, unseen.left_out().values())
    rounds: dict[int, list[Round]] = {shot: [] for shot in shots}
    for seed in seeds:
        fitted: dict[str, tuple[LearnedRouter, float]] = {}
        refused: dict[str, str] = {}
        if unseen.train is not None:
            train, validation = _tuned_apart(unseen.train, seed)
            fitted, refused = fit_all(kinds, train, validation, seed, watch)
        fitted |= {name: (router, 0.0) for name, router in unseen.artifacts.items()}
        test = fresh
        if unseen.labelled is not None:
            most = first_labels(unseen.labelled, new, max(shots), seed)
            test = _without(fresh, [np.isin(fresh.groups, most.groups)])
        for shot in shots:
            few = first_labels(unseen.labelled, new, shot, seed) if shot and unseen.labelled is not None else None
            ready = fitted if few is None else with_labels(fitted, few)
            name = f"seed {seed}, {shot} labels"
            made = judge_round(
                name, known, test, ready, whole=unseen.test, refused=refused, caution=caution, labelled=few
            )
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
        cost_usd=card_cost(test.models, tokens, told.usual_tokens_mean[None]),
    )


def _judged_models(data: Dataset) -> set[str]:
    seen = np.asarray(data.observed.any(axis=0)).tolist()
    return {card.id for card, any_of in zip(data.models, seen, strict=True) if any_of}


def _without(test: Dataset, masks: Iterable[Mask]) -> Dataset:
    kept = test.observed.any(axis=1)
    for mask in masks:
        kept = kept & ~mask
    if not kept.any():
        what = f"{test.name}: every question is in the training data, in an artifact's or among the labels"
        raise ValueError(f"{what}: bring other data to judge")
    return test.rows(np.flatnonzero(kept))


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
