"""Fits routers of layers to what leaving each layer out costs behind each of some prompts."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Final

import torch

from local_runtime.decoding.depth import Layers
from local_runtime.decoding.layers.fit_exits import states
from local_runtime.decoding.layers.prompt_router import Routers
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import LanguageModel, Logits, Segment
from local_runtime.models.transformer import Transformer

_RIDGES: Final = (1.0, 10.0, 100.0, 1e3, 1e4, 1e6)
Told = Callable[[int], None]


def losses(model: LanguageModel, ids: torch.Tensor, prompt: int, sets: Sequence[Layers], told: Told) -> torch.Tensor:
    """[windows, sets]: -ln p a token behind the first `prompt` of each window [windows, length], computed by layers.

    A layer that is listed twice in a row is computed twice. `told` hears how many windows are done.
    """
    before, found = model.layers, torch.zeros(len(ids), len(sets))
    pages = array("i", range(-(-ids.shape[1] // PAGE)))
    for i, window in enumerate(ids.tolist()):
        for k, layers in enumerate(sets):
            model.layers = layers
            logits = model.forward([Segment(pages, 0, window, len(window) - prompt + 1)])[:-1]
            found[i, k] = _loss(logits, window[prompt:])
        told(i + 1)
    model.layers = before
    return found


def single_edits(count: int) -> list[Layers]:
    """All layers; all without each of them; all with each of them twice."""
    every = tuple(range(count))
    return [
        every,
        *(every[:i] + every[i + 1 :] for i in every),
        *(every[: i + 1] + every[i:] for i in every),
    ]


def pooled(model: Transformer, ids: torch.Tensor) -> torch.Tensor:
    """Mean hidden states [windows, layers, hidden] before each layer."""
    count = len(model.weights.layers)
    found = states(model, ids, range(count))
    return torch.stack([found[i].view(*ids.shape, -1).mean(dim=1) for i in range(count)], dim=1)


def fit_routers(prompts: torch.Tensor, costs: torch.Tensor) -> tuple[Routers, torch.Tensor]:
    """From mean hidden states [windows, layers, hidden] and costs [windows, layers], a ridge regression a layer whose
    ridge is the best of leave-one-out; and the share of the costs' variance that it explains, left out [layers]."""
    center, mean = prompts.mean(dim=0), costs.mean(dim=0)
    slopes, explained = [], []
    for i in range(prompts.shape[1]):
        slope, share = _fitted(prompts[:, i] - center[i], costs[:, i] - mean[i])
        slopes.append(slope)
        explained.append(share)
    return Routers(mean, center, torch.stack(slopes)), torch.tensor(explained)


def _fitted(inward: torch.Tensor, goal: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The slope [hidden], none at all where no ridge foretells anything, and the share explained."""
    inward, goal = inward.double(), goal.double()
    scale = inward.square().mean()
    # A constant that is held by nothing: else the mean would tell of the one left out.
    alike = inward @ inward.T
    alike = alike + 1e3 * alike.diagonal().mean()
    best, kept = 0.0, torch.zeros(inward.shape[1], dtype=torch.float64)
    for ridge in _RIDGES:
        inverse = torch.linalg.inv(alike + ridge * scale * torch.eye(len(goal), dtype=torch.float64))
        solution = inverse @ goal
        error = solution / inverse.diagonal()  # of each window, left out
        share = 1 - float(error.square().sum() / goal.square().sum().clamp_min(1e-30))
        if share > best:
            best, kept = share, inward.T @ solution
    return kept.float(), best


def _loss(logits: Logits, following: Sequence[int]) -> float:
    rows = torch.from_numpy(logits).double().log_softmax(dim=-1)
    return float(-rows[torch.arange(len(rows)), torch.tensor(following)].mean())
