"""Mixed traffic: the rows of several data sets as one, over the models that they have in common."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from policies.catalogue import ModelCard
from routers.inputs import Inputs
from routers.training.dataset import MATRICES, Dataset

# Of each set, which of its columns holds the model.
Places = dict[int, int]


def union(datasets: Sequence[Dataset], name: str = "", *, every_model: bool = False) -> Dataset:
    """All rows over the common models; NaN where a model was not asked.

    Models are one and the same by id, else by `base_model` where no set has two of it and their tunings don't differ;
    the first set's card stands for them. Where no model is common to all sets, or with `every_model`, the columns are
    the models of all sets. Rows without any score left are dropped. Query ids get the set's name in front where they
    clash; the same question keeps one group. `ValueError` for no sets, or sets of different embedders.
    """
    if not datasets:
        raise ValueError("a union needs one data set at least")
    embedders = sorted({one.embedder for one in datasets})
    if len(embedders) > 1:
        raise ValueError(f"the sets are embedded by {' and '.join(embedders)}: read them with one embedder")
    models = same_models([one.models for one in datasets])
    common = [places for places in models if len(places) == len(datasets)]
    chosen = models if every_model or not common else common
    cards = [datasets[min(places)].models[places[min(places)]] for places in chosen]
    joined = _join(name or "+".join(one.name for one in datasets), datasets, chosen, cards)
    return joined.rows(np.asarray(joined.observed.any(axis=1)).nonzero()[0])


def same_models(sets: Sequence[Sequence[ModelCard]]) -> list[Places]:
    """Which columns of several sets are the same model, in the order of their first appearance."""
    by_id: dict[str, Places] = {}
    for at, cards in enumerate(sets):
        for column, card in enumerate(cards):
            by_id.setdefault(card.id, {})[at] = column
    models: list[Places] = []
    same_base: defaultdict[str, list[Places]] = defaultdict(list)
    for places in by_id.values():
        at = min(places)
        base = sets[at][places[at]].base_model
        (same_base[base] if base else models).append(places)
    for alike in same_base.values():
        found = Counter(at for places in alike for at in places)
        tunings = {sets[at][column].tuning for places in alike for at, column in places.items()} - {""}
        one_model = max(found.values()) == 1 and len(tunings) <= 1
        models += [{at: places[at] for places in alike for at in places}] if one_model else alike
    return sorted(models, key=lambda places: (min(places), places[min(places)]))


def _join(name: str, datasets: Sequence[Dataset], chosen: Sequence[Places], cards: Sequence[ModelCard]) -> Dataset:
    logged = any(one.propensity is not None for one in datasets)
    return Dataset(
        name=name,
        query_ids=_unique_ids(datasets),
        texts=tuple(text for one in datasets for text in one.texts),
        tasks=tuple(task for one in datasets for task in one.tasks),
        groups=np.concatenate([one.groups for one in datasets]),
        inputs=Inputs(
            np.concatenate([one.inputs.embeddings for one in datasets]),
            np.concatenate([one.inputs.tokens for one in datasets]),
            np.concatenate([one.inputs.facts for one in datasets]),
        ),
        embedder=datasets[0].embedder,
        notes=tuple(f"{one.name}: {note}" for one in datasets for note in one.notes),
        models=tuple(cards),
        propensity=_stacked("propensity", datasets, chosen) if logged else None,
        **{field: _stacked(field, datasets, chosen) for field in MATRICES},
    )


def _stacked(field: str, datasets: Sequence[Dataset], chosen: Sequence[Places]) -> Any:
    return np.concatenate([_spread(getattr(one, field), len(one), at, chosen) for at, one in enumerate(datasets)])


def _spread(matrix: Any, rows: int, at: int, chosen: Sequence[Places]) -> Any:
    """One set's matrix [Q, its models] in the union's columns."""
    kind = np.float32 if matrix is None else matrix.dtype
    wide = np.full((rows, len(chosen)), np.nan, dtype=kind)
    for column, places in enumerate(chosen):
        if matrix is not None and at in places:
            wide[:, column] = matrix[:, places[at]]
    return wide


def _unique_ids(datasets: Sequence[Dataset]) -> tuple[str, ...]:
    counts = Counter(one_id for one in datasets for one_id in one.query_ids)
    return tuple(
        f"{at}:{one.name}:{one_id}" if counts[one_id] > 1 else one_id
        for at, one in enumerate(datasets)
        for one_id in one.query_ids
    )
