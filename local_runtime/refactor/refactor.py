"""A mixture of experts made of a dense model, layer by layer (after Read-ME, arXiv:2410.19123; fitted, not trained).

Each layer's neurons become experts and a part for all tokens; a router learns which experts contribute most; then the
output matrices are fitted so that the mixture's own hidden states, with all errors of the layers before, come back to
the dense model's. No gradient passes through a layer.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from local_runtime.base import UnsupportedModel
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import Segment
from local_runtime.models.packed import plain
from local_runtime.models.spec import ModelSpec
from local_runtime.models.transformer import Transformer
from local_runtime.models.weights import DenseWeights, LayerWeights
from local_runtime.refactor.fits import fitted_router, refitted
from local_runtime.refactor.neurons import Parts, shared_out

# Tokens that clusters are made of; windows that are computed at once.
_CLUSTERED = 4096
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Recipe:
    """`shared` neurons for all tokens, the others in `experts`, of which a token takes `active`.

    `early`: routers read what the layer before reads. `hold`: how strongly output weights stay what they were.
    """

    experts: int = 16
    active: int = 8
    shared: int = 512
    early: bool = True
    hold: float = 0.1
    seed: int = 0

    def check(self, spec: ModelSpec) -> None:
        """ValueError or UnsupportedModel where a model can't be taken apart so."""
        others = spec.gelu, spec.post_norms, spec.second_rope, spec.rope.width
        if (
            spec.moe is not None
            or spec.latent is not None
            or any((spec.mlp_bias, spec.qkv_bias, spec.out_bias, spec.qk_norm, *others))
        ):
            raise UnsupportedModel("only dense models of the Llama family without biases can be made a mixture")
        if not 0 < self.active <= self.experts:
            raise ValueError(f"active must lie between 1 and the {self.experts} experts, not {self.active}")
        if not 0 <= self.shared < spec.intermediate or (spec.intermediate - self.shared) % self.experts:
            raise ValueError(
                f"shared must leave a multiple of {self.experts} of the {spec.intermediate} neurons, not {self.shared}"
            )


@dataclass(frozen=True, slots=True)
class Mixed:
    """A layer's feed-forward part as a mixture: gate, up and down of the shared part and of each expert."""

    router: torch.Tensor
    shared: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    experts: tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]


class Windows:
    """Token windows of one length [windows, length] on their way through a model's layers."""

    def __init__(self, model: Transformer, ids: torch.Tensor) -> None:
        self._model = model
        self._ids = ids
        self.hidden = model.weights.embed[ids].float().flatten(0, 1)

    def attend(self, layer: int) -> None:
        """Add the layer's attention to the hidden states."""
        length = self._ids.shape[1]
        for first in range(0, len(self._ids), _AT_ONCE):
            some = self._ids[first : first + _AT_ONCE]
            rows = slice(first * length, (first + len(some)) * length)
            self.hidden[rows] += self._model.attended(layer, self.hidden[rows], list(_segments(some)))

    def normed(self, layer: LayerWeights) -> torch.Tensor:
        """What the layer's feed-forward part reads."""
        return self._model.normed(self.hidden, layer.ffn_norm)


@torch.inference_mode()
def refactor(
    model: Transformer, ids: torch.Tensor, recipe: Recipe, told: Callable[[int, float], None] = lambda *_: None
) -> list[Mixed]:
    """The layers of the mixture, fitted on windows of tokens [windows, length].

    `told` hears of each layer how far the mixture's hidden states are from the dense model's, as a share of these.
    """
    recipe.check(model.spec)
    dense, mixture = Windows(model, ids), Windows(model, ids)
    layers: list[Mixed] = []
    before: torch.Tensor | None = None
    for i, layer in enumerate(model.weights.layers):
        ffn = _dense(layer)
        dense.attend(i)
        mixture.attend(i)
        inside = _inside(ffn, dense.normed(layer))
        parts = _parts(ffn, inside, recipe)
        dense.hidden += inside @ plain(ffn.down).T
        read = mixture.normed(layer)
        asked = read if before is None or not recipe.early else before
        inside = _inside(ffn, read)
        members = parts.members(inside.shape[1])
        router = _router(asked, _strength(ffn, inside).square() @ members, recipe)
        inside = inside * _taken(asked @ router.T, members, parts, recipe.active)
        down = refitted(plain(ffn.down), inside, dense.hidden - mixture.hidden, recipe.hold)
        mixture.hidden += inside @ down.T
        layers.append(_mixed(ffn, down, router, parts))
        before = read
        told(i, float((mixture.hidden - dense.hidden).norm() / dense.hidden.norm()))
    return layers


def _segments(ids: torch.Tensor) -> Iterator[Segment]:
    pages = -(-ids.shape[1] // PAGE)
    for i, window in enumerate(ids.tolist()):
        yield Segment(array("i", range(i * pages, (i + 1) * pages)), 0, window)


def pages_for(length: int) -> int:
    """Pages that a model must have for windows of such a length."""
    return _AT_ONCE * -(-length // PAGE)


def _dense(layer: LayerWeights) -> DenseWeights:
    if not isinstance(layer.ffn, DenseWeights):
        raise UnsupportedModel("a layer with experts can't be taken apart again")
    return layer.ffn


def _inside(ffn: DenseWeights, x: torch.Tensor) -> torch.Tensor:
    """What each neuron gives: [tokens, neurons]."""
    gate, up = (x @ plain(ffn.gate_up).T).chunk(2, dim=1)
    inside: torch.Tensor = functional.silu(gate) * up
    return inside


def _strength(ffn: DenseWeights, inside: torch.Tensor) -> torch.Tensor:
    """How long the vector is that each neuron adds."""
    found: torch.Tensor = inside.abs() * plain(ffn.down).norm(dim=0)
    return found


def _parts(ffn: DenseWeights, inside: torch.Tensor, recipe: Recipe) -> Parts:
    random = torch.Generator().manual_seed(recipe.seed)
    some = torch.randperm(len(inside), generator=random)[:_CLUSTERED]
    return shared_out(_strength(ffn, inside[some]), recipe.shared, recipe.experts, recipe.seed)


def _router(asked: torch.Tensor, strength: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    with torch.inference_mode(mode=False), torch.enable_grad():
        return fitted_router(asked.clone(), strength.clone(), recipe.active, recipe.seed)


def _taken(scores: torch.Tensor, members: torch.Tensor, parts: Parts, active: int) -> torch.Tensor:
    """1 where a token takes a neuron: [tokens, neurons]."""
    chosen = torch.zeros_like(scores).scatter_(1, scores.topk(active, dim=1).indices, 1.0)
    taken = chosen @ members.T
    taken[:, parts.shared] = 1.0
    return taken


def _mixed(ffn: DenseWeights, down: torch.Tensor, router: torch.Tensor, parts: Parts) -> Mixed:
    gate, up = plain(ffn.gate_up).chunk(2)

    def cut(neurons: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return gate[neurons], up[neurons], down[:, neurons]

    return Mixed(router, cut(parts.shared), tuple(cut(neurons) for neurons in parts.experts))


def windows_of(ids: Sequence[int], length: int, most: int, seed: int = 0) -> torch.Tensor:
    """Up to `most` windows of the text, from all over it: int64 [windows, length]; ValueError where it is too short."""
    count = len(ids) // length
    if not count:
        raise ValueError(f"the text has {len(ids)} tokens: at least {length} are needed")
    windows = torch.tensor(ids[: count * length]).view(count, length)
    return windows[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most]]
