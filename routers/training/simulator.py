"""A world with known truth to test learners on: skills, models that have them, questions that need them.

Nothing here is fit for judging a router: whoever is tested on it is tested on this file's assumptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from policies.catalogue import ModelCard
from routers.features import estimate_tokens
from routers.inputs import Inputs, facts_of
from routers.training.dataset import Dataset, Doubles, Floats
from routers.training.stems import question_number

Number = TypeVar("Number", np.float32, np.float64)

EMBEDDER: Final = "simulated"
_SIZES_B: Final = (1, 3, 8, 14, 32, 70, 180, 400)
_WORDS_IN_SKILL: Final = 12
_SECONDS_PER_TOKEN_AND_B: Final = 0.0002


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """K skills and M models. `prototypes` [K, D] is where a skill's questions lie, `abilities` [M, K] are logits.

    `card_signal` in 0..1 is how much of a model's mean ability its size tells; the rest is the model's own.
    `wordiness` [M] are median output tokens, `hardness` is the spread of what makes a question hard in logits,
    `repeats` the share of questions that are asked again in other words of the same stem.
    """

    prototypes: Floats
    abilities: Doubles
    cards: tuple[ModelCard, ...]
    wordiness: Doubles
    card_signal: float
    hardness: float = 1.0
    repeats: float = 0.0

    def quality(self, skills: Doubles, difficulty: Doubles) -> Doubles:
        """The true chance of a good answer [Q, M] to questions that need `skills` [Q, K] (rows sum to 1)."""
        return np.asarray(1 / (1 + np.exp(-(skills @ self.abilities.T - difficulty[:, None]))))

    def drifted(self, seed: int, size: float = 0.5) -> World:
        """Later: every ability has moved by a normal step of `size` logits; cards stay as they were."""
        steps = np.random.default_rng(seed).normal(0, size, self.abilities.shape)
        return replace(self, abilities=self.abilities + steps)

    def with_new_models(self, count: int, seed: int) -> World:
        """The same skills and models, and `count` models more behind them."""
        rng = np.random.default_rng(seed)
        first = len(self.cards)
        abilities, cards, wordiness = _models(rng, count, first, self.abilities.shape[1], self.card_signal)
        return replace(
            self,
            abilities=np.concatenate((self.abilities, abilities)),
            cards=self.cards + cards,
            wordiness=np.concatenate((self.wordiness, wordiness)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """What a learner sees, and the truth: `quality` [Q, M], and the `skills` [Q, K] that each question needs."""

    dataset: Dataset
    quality: Doubles
    skills: Doubles


def make_world(
    *,
    models: int = 8,
    skills: int = 5,
    dimensions: int = 24,
    seed: int = 0,
    card_signal: float = 0.7,
    hardness: float = 1.0,
    repeats: float = 0.0,
) -> World:
    """A world; the same arguments give the same one."""
    rng = np.random.default_rng(seed)
    prototypes = _unit(rng.normal(size=(skills, dimensions)))
    abilities, cards, wordiness = _models(rng, models, 0, skills, card_signal)
    return World(prototypes, abilities, cards, wordiness, card_signal, hardness, repeats)


def simulate(world: World, count: int, seed: int, *, density: float = 1.0, name: str = "simulated") -> Simulation:
    """`count` questions put to all models, or each pair with the chance `density`; scores are 0 or 1."""
    rng = np.random.default_rng(seed)
    kinds = world.prototypes.shape[0]
    skills = rng.dirichlet(np.full(kinds, 0.15), size=count)
    difficulty = rng.normal(0, world.hardness, count)
    embeddings = _unit(skills @ world.prototypes + rng.normal(0, 0.05, (count, world.prototypes.shape[1])))
    texts = _texts(rng, skills, seed, world.repeats)
    again = _same_as(texts)
    skills, difficulty, embeddings = skills[again], difficulty[again], embeddings[again]
    quality = world.quality(skills, difficulty)
    asked = rng.random(quality.shape) < density
    score = np.where(asked, rng.random(quality.shape) < quality, np.nan)
    tokens = [estimate_tokens(text) for text in texts]
    read = np.where(asked, np.array(tokens, dtype=np.float64)[:, None], np.nan)
    spread = rng.lognormal(0, 0.3, quality.shape) * np.exp(0.3 * difficulty)[:, None]
    wrote = np.where(asked, np.maximum(np.rint(world.wordiness * spread), 1), np.nan)
    sizes = np.array([card.params_b or 1 for card in world.cards])
    dataset = Dataset(
        name=name,
        query_ids=tuple(f"{name}:{seed}:{place}" for place in range(count)),
        texts=tuple(texts),
        tasks=tuple(f"skill-{kind}" for kind in skills.argmax(axis=1)),
        groups=np.array([question_number(text) for text in texts], dtype=np.intp),
        inputs=Inputs(
            embeddings.astype(np.float32),
            np.array(tokens, dtype=np.float32),
            _facts(texts, tokens),
        ),
        embedder=EMBEDDER,
        models=world.cards,
        score=score.astype(np.float32),
        input_tokens=read.astype(np.float32),
        output_tokens=wrote.astype(np.float32),
        cost_usd=(read * _prices(world.cards, "price_in_usd_per_mtok") + wrote * _prices(world.cards)) / 1e6,
        latency_s=(0.2 + wrote * sizes * _SECONDS_PER_TOKEN_AND_B).astype(np.float32),
    )
    return Simulation(dataset, quality, skills)


def logged(dataset: Dataset, propensities: npt.ArrayLike, seed: int) -> Dataset:
    """The same questions as a log has them: one model asked of each, drawn by `propensities` [Q, M] or [M]."""
    shape = dataset.score.shape
    chances = np.broadcast_to(np.asarray(propensities, dtype=np.float64), shape)
    if (chances < 0).any() or not np.allclose(chances.sum(axis=1), 1):
        raise ValueError("propensities must be 0 or more and sum to 1 in each row")
    draws = np.random.default_rng(seed).random((shape[0], 1))
    chosen = np.minimum((np.cumsum(chances, axis=1) <= draws).sum(axis=1), shape[1] - 1)
    hidden = np.arange(shape[1])[None, :] != chosen[:, None]

    def shown(matrix: npt.NDArray[Number]) -> npt.NDArray[Number]:
        return np.where(hidden, np.nan, matrix).astype(matrix.dtype)

    return replace(
        dataset,
        score=shown(dataset.score),
        input_tokens=shown(dataset.input_tokens),
        output_tokens=shown(dataset.output_tokens),
        cost_usd=shown(dataset.cost_usd),
        latency_s=shown(dataset.latency_s),
        propensity=shown(chances.astype(np.float32)),
    )


def _models(
    rng: np.random.Generator, count: int, first: int, skills: int, card_signal: float
) -> tuple[Doubles, tuple[ModelCard, ...], Doubles]:
    """Abilities [count, skills], cards, and median output tokens [count]."""
    sizes = rng.choice(_SIZES_B, size=count)
    told = (np.log(sizes) - np.log(_SIZES_B).mean()) / np.log(_SIZES_B).std()
    mean = 0.5 + card_signal * told + np.sqrt(1 - card_signal**2) * rng.normal(size=count)
    abilities = mean[:, None] + rng.normal(0, 1.0, (count, skills))
    prices = 0.02 * sizes * rng.lognormal(0, 0.2, count)
    cards = tuple(
        ModelCard(
            id=f"model-{first + place}",
            context_tokens=32_768,
            organisation=f"lab-{(first + place) % 3}",
            family=f"family-{(first + place) % 4}",
            base_model=f"model-{first + place}",
            params_b=float(size),
            active_params_b=float(size),
            open_weights=True,
            tuning="chat",
            release=f"20{20 + (first + place) % 6}-01",
            price_in_usd_per_mtok=round(float(price), 6),
            price_out_usd_per_mtok=round(float(3 * price), 6),
            description=f"A model of {size} thousand million parameters.",
        )
        for place, (size, price) in enumerate(zip(sizes.tolist(), prices, strict=True))
    )
    return abilities, cards, rng.lognormal(5, 0.5, count)


def _texts(rng: np.random.Generator, skills: Doubles, seed: int, repeats: float) -> list[str]:
    """Questions in words of the skills that they need; some are an earlier one in other case and spacing."""
    found: list[str] = []
    for place, share in enumerate(skills):
        if place and rng.random() < repeats:
            found.append(found[int(rng.integers(place))].upper().replace(" ", "  "))
            continue
        size = int(rng.integers(8, 60))
        kinds = rng.choice(len(share), size=size, p=share)
        words = " ".join(f"word{kind}x{rng.integers(_WORDS_IN_SKILL)}" for kind in kinds)
        found.append(f"Question {seed} {place}: {words}?")
    return found


def _same_as(texts: Sequence[str]) -> npt.NDArray[np.intp]:
    """Of each text the place of the first of its question."""
    firsts: dict[int, int] = {}
    found = [firsts.setdefault(question_number(text), place) for place, text in enumerate(texts)]
    return np.array(found, dtype=np.intp)


def _facts(texts: Sequence[str], tokens: Sequence[int]) -> Floats:
    found = [facts_of(text, size, False, False) for text, size in zip(texts, tokens, strict=True)]
    return np.array(found, dtype=np.float32)


def _prices(cards: Sequence[ModelCard], field: str = "price_out_usd_per_mtok") -> Doubles:
    return np.array([getattr(card, field) or 0.0 for card in cards], dtype=np.float64)


def _unit(vectors: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
