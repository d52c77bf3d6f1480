"""What an adapter is, whatever computes it: low-rank additions to projections, and how several are mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from local_runtime.models.spec import ModelSpec

Floats = npt.NDArray[np.float32]
# Layer and projection.
Place = tuple[int, str]

ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS: Final = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Pair:
    """W x becomes W x + `up` `down` x (LoRA, arXiv:2106.09685): `down` [rank, in], `up` [out, rank] times its scale."""

    down: Floats
    up: Floats


@dataclass(frozen=True, slots=True)
class Member:
    """One adapter; its rows are in Hugging Face's order. `weight`: how much of it is added."""

    pairs: Mapping[Place, Pair]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Gate:
    """Says from the base model's last hidden state how much of each member is added (X-LoRA, arXiv:2402.07148).

    `layers`: weights [out, in] and biases, ReLU between them; they end in numbers for the members, or with `apart` for
    the members of each of `places` in order. Softmax of these over `temperature` where `softmax`; only the `most`
    largest stay (None: all), which sum to one with `normalise`; then times `scale`.
    """

    layers: tuple[tuple[Floats, Floats], ...]
    places: tuple[Place, ...]
    apart: bool
    softmax: bool = True
    temperature: float = 1.0
    most: int | None = None
    normalise: bool = False
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """What a request may choose: the sum of its members, each by its weight or, with a gate, by token and place."""

    members: tuple[Member, ...]
    gate: Gate | None = None


class Wears(Protocol):
    """A model that takes adapters."""

    spec: ModelSpec

    def wear(self, adapter: Adapter) -> int:
        """Keep an adapter; its number in `Segment.adapter`. From any thread, between passes or during one.

        UnsupportedModel where this model computes no adapter of this kind.
        """
