"""GraphRouter as it was published (arXiv 2410.03834): a baseline with known faults, kept to be compared with.

It learns which model is the best under one trade-off, not how good each is: ties go to the first model in order, prices
and trade-offs are baked in, messages are summed, and queries receive none, so that it folds to a bilinear classifier
with a bottleneck of 16 which often gives every query to one model. The `graph` kind mends these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from routers.card_prior import CardPrior
from routers.folded import Array, Arrays, FoldedRouter, Settings
from routers.inputs import FACTS, Floats, Inputs
from routers.learned import Progress
from routers.linear import LINEAR, Doubles, linear, sigmoid

if TYPE_CHECKING:
    from routers.training.checkpoint import Checkpoint
    from routers.training.dataset import Dataset
    from routers.training.graphrouter_network import Graph, Network
    from routers.training.lesson import Lesson


class GraphRouter(FoldedRouter):
    """`quality` is the edge score: how likely a model is the best under reward = `score` x score - `cost` x cost, the
    cost min-max normalised over all pairs. (1, 0), (.5, .5) and (.2, .8) are the paper's scenarios.

    As there: one-hot labels of the first best reward, half of the edges hidden a pass, AdamW. Otherwise than there: the
    task's vector is a constant, since routers are not told tasks; models begin as facts of their cards, not as embedded
    descriptions; cost is the data's, not that of 512 tokens; the step is chosen by reward on validation queries, since
    macro F1 chooses worse ones. Labels of new models are not made use of.
    """

    kind: ClassVar[str] = "graphrouter"
    GRID: ClassVar = {"score": (1.0,), "cost": (0.0,), "steps": (300,)}
    ARRAYS = LINEAR
    mended = False  # an edge score is not a quality

    @classmethod
    def tune(
        cls, fitted: Lesson, unseen: Lesson, settings: Settings, seed: int, progress: Progress, kept: Checkpoint
    ) -> Settings:
        """See `FoldedRouter`; the number of steps with the best reward."""
        from routers.training.graphrouter_network import Course, folded, train

        chosen: dict[str, Any] = {name: values[0] for name, values in cls.GRID.items()} | dict(settings)
        graph, rewards = _graph(fitted, chosen), _rewards(unseen, chosen)
        judged: list[tuple[float, int]] = []

        def watch(step: int, network: Network) -> None:
            weights, bias = folded(network, graph)
            picks = (unseen.inputs.embeddings @ weights + bias).argmax(axis=1)
            judged.append((-_mean_reward(rewards, picks), step))
            progress(0.8 * step / chosen["steps"], f"step {step}")

        def steps() -> dict[str, Array]:
            train(graph, Course(chosen["steps"]), seed, watch)
            return {"steps": np.array(min(judged)[1])}

        return {**chosen, "steps": int(kept.stage("steps", steps)["steps"])}

    @classmethod
    def learn(cls, lesson: Lesson, settings: Settings, seed: int) -> dict[str, Array]:
        """See `FoldedRouter`."""
        from routers.training.graphrouter_network import Course, folded, train

        graph = _graph(lesson, settings)
        weights, bias = folded(train(graph, Course(settings["steps"]), seed), graph)
        no_facts = np.zeros((len(FACTS), weights.shape[1]), dtype=np.float32)
        return dict(zip(LINEAR, (weights.astype(np.float32), no_facts, bias.astype(np.float32)), strict=True))

    @classmethod
    def usual(cls, arrays: Arrays, lesson: Lesson) -> Array:
        """See `FoldedRouter`; the mean edge score."""
        told, _ = cls.told(arrays, lesson.inputs)
        return np.asarray(told.mean(axis=0, dtype=np.float64))

    @classmethod
    def trusted(cls, lesson: Lesson, settings: Settings, seed: int) -> None:
        """See `FoldedRouter`; as published, it believes itself wherever it is asked."""
        return

    @staticmethod
    def told(arrays: Arrays, inputs: Inputs) -> tuple[Floats, None]:
        """See `FoldedRouter`."""
        return sigmoid(linear(arrays, inputs)), None

    def with_outcomes(self, labelled: Dataset) -> Self:
        """Unchanged: scores say nothing of an edge score, and the graph is not there at serving time."""
        return self


def _rewards(lesson: Lesson, settings: Settings) -> Doubles:
    """Reward of each pair [Q, M]; minus infinity where nothing was observed."""
    cost = np.where(np.isnan(lesson.score), np.nan, lesson.cost_usd)
    known = cost[~np.isnan(cost)]
    low, span = (known.min(), max(float(np.ptp(known)), 1e-12)) if len(known) else (0.0, 1.0)
    normal = np.nan_to_num((cost - low) / span, nan=0.5)
    reward = settings["score"] * lesson.score - settings["cost"] * normal
    return np.asarray(np.nan_to_num(reward, nan=-np.inf, neginf=-np.inf), dtype=np.float64)


def _best(rewards: Doubles) -> Array:
    """The first model of the highest reward, of each query."""
    return np.asarray(rewards.argmax(axis=1))


def _graph(lesson: Lesson, settings: Settings) -> Graph:
    import torch

    from routers.training.graphrouter_network import Graph

    rewards = _rewards(lesson, settings)
    asked, answering = np.nonzero(np.isfinite(rewards))
    cost = lesson.cost_usd[asked, answering]
    known = cost[~np.isnan(cost)]
    span = max(float(np.ptp(known)), 1e-12) if len(known) else 1.0
    normal = np.nan_to_num((cost - (known.min() if len(known) else 0.0)) / span)
    facts = np.column_stack([rewards[asked, answering], normal, lesson.score[asked, answering]])
    prior = CardPrior.fit(lesson.cards, lesson.usual())
    return Graph(
        queries=torch.tensor(lesson.inputs.embeddings, dtype=torch.float32),
        models=torch.tensor(prior.columns(lesson.cards), dtype=torch.float32),
        edges=torch.tensor(np.stack([asked, answering])),
        facts=torch.tensor(facts, dtype=torch.float32),
        best=torch.tensor((_best(rewards)[asked] == answering).astype(np.float32)),
    )


def _mean_reward(rewards: Doubles, picks: Array) -> float:
    """Of the picked models, where their outcomes were observed."""
    found = rewards[np.arange(len(picks)), picks]
    known = found[np.isfinite(found)]
    return float(known.mean()) if len(known) else 0.0
