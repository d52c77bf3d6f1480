"""Model nodes of the graph in numpy: edges to skills blended with what the card says, and the network's encoding.

The network is here only as arrays: members of an ensemble in the first axis, E of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from routers.artifact import Array
from routers.inputs import Floats

Doubles = npt.NDArray[np.float64]

# How many outcomes at a skill weigh as much as what was known of the model before.
SKILL_STRENGTH = 10.0
VARIANCE_FLOOR = 0.1
LEAST_USUAL, MOST_USUAL = 0.02, 0.98


def blended(
    mass: Array, score: Array, tokens: Array, prior: Array, token_prior: Array | None
) -> tuple[Doubles, Doubles, Doubles]:
    """Residuals of score and tokens at the skills and how far they rest on outcomes, [M, K] each.

    `mass`, `score`, `tokens` are sums over a model's outcomes at a skill, the priors what its kin did there.
    """
    total = mass + SKILL_STRENGTH
    skill = (score + SKILL_STRENGTH * prior) / total
    lengths = (tokens + SKILL_STRENGTH * (0.0 if token_prior is None else token_prior)) / total
    return skill, lengths, mass / total


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The ensemble's weights: H hidden units, R latent coordinates, K skills, P columns.

    `first` [E, P, H], `sent` [E, K, H] what a skill sends to queries (with the bias), `edge_skill` [E, K, H] what it
    sends to models (with the bias), `edge_facts` [E, 3, H], `encode` [E, H + 1, R], `whole` [E, H + 1, 3], `latent`
    [E, H, 2 R], `mixing` [E, 7], `gap` [E, R + 1]; a last row or entry beyond the width is the bias.
    """

    first: Floats
    sent: Floats
    edge_skill: Floats
    edge_facts: Floats
    encode: Floats
    whole: Floats
    latent: Floats
    mixing: Floats
    gap: Floats

    def arrays(self) -> dict[str, Array]:
        """For an artifact: names that begin with `net.`."""
        return {f"net.{name}": getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """The reverse of `arrays`."""
        return cls(*(np.asarray(arrays[f"net.{name}"], dtype=np.float32) for name in cls.__slots__))

    def codes(self, skill: Doubles, tokens: Doubles, reliability: Doubles) -> Doubles:
        """Encodings [E, M, R] of models from their edges [M, K]: a mean over skills, then a linear map."""
        facts = np.stack([4 * skill, tokens, reliability], axis=-1)
        found = []
        for edge_skill, edge_facts, encode in zip(self.edge_skill, self.edge_facts, self.encode, strict=True):
            sent = np.maximum(edge_skill[None] + facts @ edge_facts, 0.0).mean(axis=1)
            found.append(sent @ encode[:-1] + encode[-1])
        return np.array(found)


WEIGHTS = tuple(f"net.{name}" for name in Weights.__slots__)


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """Linear maps [P + 1, 1] and [P + 1, M] (the last row is the bias) and residuals at the fine nodes [N, M].

    `heads` stand beside the network: logits of what sets a model apart.
    """

    common: Floats
    own: Floats
    heads: Floats
    tokens: Floats
    fine: Floats
    fine_tokens: Floats

    def arrays(self) -> dict[str, Array]:
        """For an artifact: names that begin with `memory.`; in half precision where they are large."""
        halved = {"fine", "fine_tokens"}
        return {
            f"memory.{name}": getattr(self, name).astype(np.float16 if name in halved else np.float32)
            for name in self.__slots__
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """The reverse of `arrays`."""
        return cls(*(np.asarray(arrays[f"memory.{name}"]).astype(np.float32) for name in cls.__slots__))

    def of(self, mix: Doubles | None) -> Remembered:
        """Of the learned models, or of others as mixtures [M, C] of them."""
        if mix is None:
            return self
        weights = mix.astype(np.float32)
        kept = (getattr(self, name) @ weights for name in ("own", "heads", "tokens", "fine", "fine_tokens"))
        return Remembered(self.common, *kept)


REMEMBERED = tuple(f"memory.{name}" for name in Remembered.__slots__)


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """The whole graph for C models as maps of a query's basis (columns, 1, skills, fine nodes, hidden units).

    `quality` and `tokens` [width, C] give deviations from the usual, `gap` [E x H + 1, C] what softplus makes the
    logarithm of 90th percentile by median.
    """

    quality: Floats
    tokens: Floats
    gap: Floats


def folded(weights: Weights, memory: Remembered, usual: Doubles, edges: tuple[Doubles, Doubles, Doubles]) -> Folded:
    """Fold models of these usual scores [C] and blended edges [C, K], whose memory has C columns."""
    codes = weights.codes(*edges)
    count, hidden, rank = len(codes), weights.first.shape[2], codes.shape[2]
    mixing = weights.mixing.mean(axis=0).astype(np.float64)
    share = np.clip(usual, LEAST_USUAL, MOST_USUAL)
    sharp = 1 / np.maximum(share * (1 - share), VARIANCE_FLOOR)
    linear = sharp * (mixing[0] * memory.common + mixing[1] * memory.own)
    linear[-1] += weights.whole[:, -1, 0].mean()
    lengths = mixing[4] * memory.tokens.astype(np.float64)
    lengths[-1] += weights.whole[:, -1, 1].mean()
    pairs = list(zip(weights.whole, weights.latent, codes, strict=True))
    of_quality = [(whole[:hidden, :1] + latent[:, :rank] @ code.T) / count for whole, latent, code in pairs]
    of_tokens = [(whole[:hidden, 1:2] + latent[:, rank:] @ code.T) / count for whole, latent, code in pairs]
    of_gap = [np.repeat(whole[:hidden, 2:3], len(usual), axis=1) / count for whole in weights.whole]
    base = np.einsum("emr,er->m", codes, weights.gap[:, :-1]) / count
    base = base + (weights.gap[:, -1] + weights.whole[:, -1, 2]).mean()
    return Folded(
        quality=_floats(linear, sharp * mixing[3] * edges[0].T, sharp * mixing[2] * memory.fine, *of_quality),
        tokens=_floats(lengths, mixing[6] * edges[1].T, mixing[5] * memory.fine_tokens, *of_tokens),
        gap=_floats(*of_gap, base[None]),
    )


def _floats(*parts: Array) -> Floats:
    return np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)
