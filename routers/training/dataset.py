"""Outcomes to learn from: queries in rows, models in columns, NaN where nothing was observed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.catalogue import ModelCard
from routers.inputs import Inputs

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
# Texts to unit vectors [len(texts), D]; the caller brings it, since routers know no embedder.
Embed = Callable[[Sequence[str]], Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Arrays of shape [Q, M] unless said; NaN is *not observed*.

    `groups` [Q] numbers the question (the same question has one number in every data set, whatever its case, spacing
    and options), so that splits leak none; the numbers are large and have gaps. `tasks` [Q] is a label to report by:
    no router may see it. `texts` [Q] may be empty strings, where only embeddings were kept. `score` is 0..1. `cost_usd`
    is what a call cost; NaN where unknown. `propensity` is the logged probability of the model that was asked. `notes`
    say what is odd about the data without being wrong.
    """

    name: str
    query_ids: tuple[str, ...]
    texts: tuple[str, ...]
    tasks: tuple[str, ...]
    groups: Indices
    inputs: Inputs
    embedder: str
    models: tuple[ModelCard, ...]
    score: Floats
    input_tokens: Floats
    output_tokens: Floats
    cost_usd: Doubles
    latency_s: Floats
    propensity: Floats | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def observed(self) -> npt.NDArray[np.bool_]:
        """Where there is a score."""
        return ~np.isnan(self.score)

    def rows(self, chosen: Indices) -> Dataset:
        """Some of the queries, in the order given."""
        where = [int(place) for place in chosen]
        return replace(
            self,
            query_ids=tuple(self.query_ids[place] for place in where),
            texts=tuple(self.texts[place] for place in where),
            tasks=tuple(self.tasks[place] for place in where),
            groups=self.groups[chosen],
            inputs=self.inputs.rows(chosen),
            **{name: getattr(self, name)[chosen] for name in MATRICES},
            propensity=None if self.propensity is None else self.propensity[chosen],
        )

    def columns(self, chosen: Sequence[int]) -> Dataset:
        """Some of the models, in the order given."""
        where = np.asarray(chosen, dtype=np.intp)
        return replace(
            self,
            models=tuple(self.models[place] for place in chosen),
            **{name: getattr(self, name)[:, where] for name in MATRICES},
            propensity=None if self.propensity is None else self.propensity[:, where],
        )

    def only(self, kept: npt.NDArray[np.bool_]) -> Dataset:
        """The outcomes of some pairs, `kept` [Q, M]; all others are forgotten, their tokens, costs and times too."""
        cells: dict[str, Any] = {name: np.where(kept, getattr(self, name), np.float32(np.nan)) for name in MATRICES}
        return replace(self, **cells, propensity=None)

    def sha256(self) -> str:
        """Hash of what is learned from: ids, texts (where they were not kept, embeddings), cards, scores, costs."""
        digest = hashlib.sha256()
        for text in (*self.query_ids, *self.texts):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        bare = [place for place, text in enumerate(self.texts) if not text]
        digest.update(np.ascontiguousarray(self.inputs.embeddings[bare]).tobytes())
        for card in self.models:
            digest.update(card.model_dump_json().encode())
        for name in MATRICES:
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        return digest.hexdigest()


MATRICES = ("score", "input_tokens", "output_tokens", "cost_usd", "latency_s")
