"""From weights and texts to a mixture in a folder, with what it costs."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from local_runtime.base import UnsupportedModel
from local_runtime.bundled import located
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import LanguageModel, Segment
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.transformer import Transformer
from local_runtime.refactor.refactor import Recipe, pages_for, refactor, windows_of
from local_runtime.refactor.write import write_mixture

WINDOW = 256
# A tenth of the windows, at most so many, is left out of the fit to judge by.
_JUDGED = 24


@dataclass(frozen=True, slots=True)
class Made:
    """A mixture beside its dense model, on text that was not fitted on."""

    fitted_tokens: int
    judged_tokens: int
    active_share: float
    dense_perplexity: float
    mixture_perplexity: float


def refactored(
    source: str,
    out: Path,
    texts: Sequence[str],
    recipe_for: Callable[[int], Recipe],
    windows: int,
    told: Callable[[int, float], None],
) -> Made:
    """Write a mixture to `out`; `recipe_for` gets the number of neurons of a layer. See `Recipe.check` for errors."""
    path = located(source)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty")
    loaded = load_model(path, LoadOptions(dtype="float32", slots=pages_for(WINDOW) * PAGE // WINDOW))
    model = loaded.model
    if not isinstance(model, Transformer):
        raise UnsupportedModel("only models that torch computes can be taken apart")
    recipe = recipe_for(model.spec.intermediate)
    recipe.check(model.spec)
    if model.spec.context_tokens < WINDOW:
        raise UnsupportedModel(f"the model's context is shorter than the {WINDOW} tokens that are fitted on at once")
    ids = windows_of(loaded.tokenizer.encode("\n\n".join(texts)), WINDOW, windows)
    if len(ids) < 2:
        raise ValueError(f"the texts have {ids.numel()} tokens: at least {2 * WINDOW} are needed")
    judged = ids[: max(1, min(_JUDGED, len(ids) // 10))]
    fitted = ids[len(judged) :]
    layers = refactor(model, fitted, recipe, told)
    template = loaded.template.source if loaded.template else ""
    write_mixture(out, model, layers, recipe, loaded.tokenizer, template)
    mixture = load_model(out, LoadOptions(dtype="float32", slots=1, context_tokens=WINDOW)).model
    width = (model.spec.intermediate - recipe.shared) // recipe.experts
    return Made(
        fitted.numel(),
        judged.numel(),
        (recipe.shared + recipe.active * width) / model.spec.intermediate,
        perplexity(model, judged),
        perplexity(mixture, judged),
    )


def perplexity(model: LanguageModel, ids: torch.Tensor) -> float:
    """Of windows of tokens [windows, length], each begun anew."""
    total, count = 0.0, 0
    pages = array("i", range(-(-ids.shape[1] // PAGE)))
    for window in ids.tolist():
        logits = model.forward([Segment(pages, 0, window, len(window))])[:-1].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        wanted = logits[np.arange(len(logits)), window[1:]]
        total += float((np.log(np.exp(logits).sum(axis=1)) - wanted).sum())
        count += len(wanted)
    return math.exp(total / count)
