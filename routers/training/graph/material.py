"""What the graph is made of: queries, skills and fine nodes found among them, models, and which fold a query is in.

No name of a task comes this far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policies.catalogue import ModelCard
from routers.card_prior import CardPrior
from routers.graph_fold import Places, Spread, gathered
from routers.inputs import Floats, Inputs
from routers.training.dataset import Dataset, Doubles, Indices
from routers.training.means import fill
from routers.training.novelty import spherical_clusters

FOLDS = 5
_ROUNDS = 6
_BLOCK = 1024
# Which nearest fine node sets the reach of a query's neighbourhood.
_NEIGHBOUR = 5


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """Q queries and M models. `score` and `log_tokens` [Q, M] are NaN where nothing was observed, `fold` [Q] is a
    question's part in cross-fitting, `membership` [Q, K] its skills, `columns` [Q, P] the inputs of linear maps.

    `fine` [Q, N] weighs the fine nodes for each query, `node` [Q] is the one that its own outcomes are kept at.
    `kin` [M, M] are weights of the other models by likeness of cards (its diagonal is 0). `data` has the same rows and
    columns, to judge choices by.
    """

    data: Dataset
    cards: tuple[ModelCard, ...]
    inputs: Inputs
    score: Doubles
    log_tokens: Doubles
    fold: Indices
    places: Places
    membership: Doubles
    columns: Doubles
    node: Indices
    prior: CardPrior
    kin: Doubles

    def __len__(self) -> int:
        return len(self.inputs)


def material(data: Dataset, skills: int, nodes: int, seed: int) -> Material:
    """Rows by id, models by id, those without any score left out; `ValueError` says what can't be learned from."""
    _check(data)
    answered = np.flatnonzero(data.observed.any(axis=1)).tolist()
    data = data.rows(np.array(sorted(answered, key=data.query_ids.__getitem__), dtype=np.intp))
    seen = [bool(column.any()) for column in data.observed.T]
    order = sorted((place for place in range(len(data.models)) if seen[place]), key=lambda at: data.models[at].id)
    data = data.columns(order)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_tokens = np.log(np.maximum(data.output_tokens.astype(np.float64), 1.0))
    score = data.score.astype(np.float64)
    usual, _ = fill(score)
    places, node = _places(data, skills, nodes, seed)
    spread = places.spread
    prior = CardPrior.fit(data.models, usual)
    return Material(
        data=data,
        cards=data.models,
        inputs=data.inputs,
        score=score,
        log_tokens=log_tokens,
        fold=_folds(data.groups, seed),
        places=places,
        membership=places.membership(data.inputs).astype(np.float64),
        columns=spread.columns(data.inputs).astype(np.float64),
        node=node,
        prior=prior,
        kin=_kin(data.models, usual),
    )


def _check(data: Dataset) -> None:
    name = f"data set '{data.name}'"
    if len(data) < 2 or not data.models:
        raise ValueError(f"{name} has {len(data)} queries and {len(data.models)} models: bring two queries and a model")
    found = data.score[data.observed]
    if not len(found):
        raise ValueError(f"{name} has no score at all: bring rows with scores from 0 to 1")
    if not (found.min() >= 0 and found.max() <= 1):
        raise ValueError(f"{name} has scores from {found.min():g} to {found.max():g}: bring them to 0 to 1")
    if not (np.isfinite(data.inputs.embeddings).all() and np.isfinite(data.inputs.facts).all()):
        raise ValueError(f"{name} has embeddings or facts that are not finite: embed the texts anew")
    if not data.inputs.embeddings.any():
        raise ValueError(f"{name} has no embedding: the graph kind places queries by them, set an embedder")


def _folds(groups: Indices, seed: int) -> Indices:
    """A part 0..FOLDS-1 for each row [Q]; a question's rows are in one part, parts differ by one question at most."""
    _, firsts, inverse = np.unique(groups, return_index=True, return_inverse=True)
    count = min(FOLDS, len(firsts))
    parts = np.empty(len(firsts), dtype=np.intp)
    by_appearance = np.argsort(firsts)
    parts[by_appearance[np.random.default_rng(seed).permutation(len(firsts))]] = np.arange(len(firsts)) % count
    return parts[inverse]


def _places(data: Dataset, skills: int, nodes: int, seed: int) -> tuple[Places, Indices]:
    """The latent skills, the fine nodes, and at which of these each query lies."""
    embeddings = data.inputs.embeddings
    count = max(min(skills, len(embeddings) // 8), 1)
    label = spherical_clusters(embeddings, count, seed)
    used = np.unique(label)
    centres = _unit(np.array([embeddings[label == one].sum(axis=0) for one in used]))
    fine, node = _fine(embeddings, nodes, seed)
    mass = np.bincount(node, minlength=len(fine)).astype(np.float32)
    facts = data.inputs.facts.astype(np.float64)
    spread = Spread(facts.mean(axis=0).astype(np.float32), _scale(facts))
    stored = fine.astype(np.float16).astype(np.float32)
    near = _nth_similarity(embeddings, stored)
    return Places(spread, centres.astype(np.float32), stored, mass, near, sharpness=12.0, reach=15.0, doubt=3.0), node


def _scale(facts: Doubles) -> Floats:
    spread = facts.std(axis=0)
    return np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0.0).astype(np.float32)


def _fine(embeddings: Floats, nodes: int, seed: int) -> tuple[Floats, Indices]:
    """At most `nodes` centres of small groups of queries; where there are fewer queries, these themselves."""
    distinct, inverse = np.unique(embeddings, axis=0, return_inverse=True)
    if len(distinct) <= nodes:
        return distinct, inverse.astype(np.intp)
    rng = np.random.default_rng(seed)
    centres = embeddings[np.sort(rng.choice(len(embeddings), nodes, replace=False))]
    for _ in range(_ROUNDS):
        label = _nearest(embeddings, centres)
        sums = gathered(label, embeddings.astype(np.float64), nodes)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres).astype(np.float32)
    label = _nearest(embeddings, centres)
    used, label = np.unique(label, return_inverse=True)
    return centres[used], label.astype(np.intp)


def _nearest(embeddings: Floats, centres: Floats) -> Indices:
    blocks = range(0, len(embeddings), _BLOCK)
    return np.concatenate([(embeddings[at : at + _BLOCK] @ centres.T).argmax(axis=1) for at in blocks])


def _nth_similarity(embeddings: Floats, fine: Floats) -> float:
    """The median over queries of the similarity to the fifth fine node beside their own."""
    some = embeddings[:: max(len(embeddings) // 1000, 1)]
    place = max(len(fine) - 1 - _NEIGHBOUR, 0)
    return float(np.median(np.partition(some @ fine.T, place, axis=1)[:, place]))


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def _kin(cards: tuple[ModelCard, ...], usual: Doubles) -> Doubles:
    """What each model's card says of it by the others' figures alone [M, M]."""
    kin = np.zeros((len(cards), len(cards)))
    for place in range(len(cards)) if len(cards) > 1 else ():
        others = [one for one in range(len(cards)) if one != place]
        prior = CardPrior.fit([cards[one] for one in others], usual[others])
        kin[place, others] = prior.weights([cards[place]])[0]
    return kin
