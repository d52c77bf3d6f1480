"""Whether a prompt says which layers its answer can do without: routers of layers beside one choice for all prompts.

    python -m benchmarks.routes [--text FILE ...] [--train 20] [--windows 12] [--json FILE]

SmolLM2, one thread. Windows of 128 tokens (documentation of Python's modules, or the texts): the first half is the
prompt, the rest is judged. Each layer is left out, and computed twice, for each of the training windows; routers
(FiRST, arXiv:2410.12513; labels by search as Dr.LLM, arXiv:2510.12773) are fitted to what that costs by the prompt's
mean hidden states before the layer. `explained`: the share of the costs' variance that they foretell of prompts that
were left out of the fit. Then, for some numbers of layers, perplexity as a multiple of all layers' on other windows:
  all alike   the layers that cost least in the mean of the training windows are left out
  routed      those that the routers say cost least
  known       those that cost this very window least, one by one: what a router without error would do
and the share of questions whose right answer of four is the likeliest, with the first two.
"""

from __future__ import annotations

import argparse
import json
import math
import pydoc
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.depth import MODULES, questions
from benchmarks.runtime.likelihood import loss
from local_runtime.bundled import bundled_path
from local_runtime.decoding.depth import Layers
from local_runtime.decoding.layers.fit_routers import fit_routers, losses, pooled, single_edits
from local_runtime.decoding.layers.prompt_router import Routers, most_costly
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import LanguageModel, Segment
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.transformer import Transformer
from local_runtime.refactor.refactor import pages_for, windows_of

WINDOW: Final = 128
HALF: Final = WINDOW // 2
KEPT: Final = (29, 28, 27, 26, 24)


def main() -> None:
    """See the module."""
    given = _parsed()
    model, inside, encode = _models()
    count = len(model.layers)
    texts = [path.read_text("utf-8") for path in given.text]
    texts = texts or [pydoc.plain(pydoc.render_doc(name)) for name in MODULES]
    ids = windows_of(encode("\n\n".join(texts)), WINDOW, given.train + given.windows)
    judged, fitted = ids[: given.windows], ids[given.windows :]
    edits = single_edits(count)
    found = losses(model, fitted, HALF, edits, lambda done: print(f"{done} windows", end="\r", flush=True))
    costs = found[:, 1:] - found[:, :1]
    routers, explained = fit_routers(pooled(inside, fitted[:, :HALF]), costs[:, :count])
    report: dict[str, Any] = {"without": _told(costs[:, :count], explained), "twice": _told(costs[:, count:])}
    true = losses(model, judged, HALF, edits[: count + 1], lambda _: None)
    prompts = pooled(inside, judged[:, :HALF])
    report["curve"] = [_row(model, judged, true, prompts, routers, keep) for keep in KEPT]
    asked = list(questions(encode))[::2]
    for row in report["curve"]:
        keep = row["layers"]
        same = most_costly(routers.mean, keep)
        row["choices alike"] = _choices(model, asked, lambda _, same=same: same)
        row["choices routed"] = _choices(
            model, asked, lambda ids, keep=keep: routers.cheapest(pooled(inside, torch.tensor([ids]))[0], keep)
        )
        print(row)
    print(report["without"], report["twice"])
    if given.json:
        given.json.write_text(json.dumps(report, indent=1))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="*", default=())
    parser.add_argument("--train", type=int, default=20, help="windows that routers are fitted to")
    parser.add_argument("--windows", type=int, default=12, help="windows that all is judged on")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _models() -> tuple[LanguageModel, Transformer, Callable[[str], list[int]]]:
    """The native model for losses, torch for hidden states, and the tokenizer."""
    loaded = load_model(bundled_path("smollm2"), LoadOptions(slots=1, context_tokens=WINDOW))
    loaded.model.use_threads(1)
    options = LoadOptions("float32", pages_for(WINDOW) * PAGE // WINDOW, WINDOW)
    inside = load_model(bundled_path("smollm2"), options).model
    if not isinstance(inside, Transformer):
        raise TypeError("the bundled model is not computed by torch")
    inside.use_threads(1)
    return loaded.model, inside, loaded.tokenizer.encode


def _told(costs: torch.Tensor, explained: torch.Tensor | None = None) -> dict[str, Any]:
    """By layer the mean cost in nats, how much prompts differ in it, and for how many it is a gain."""
    told = {
        "mean": costs.mean(dim=0),
        "deviation": costs.std(dim=0),
        "gains": (costs < 0).float().mean(dim=0),
        "best of each prompt": costs.min(dim=1).values.mean(),
    }
    if explained is not None:
        told["explained"] = explained
    return {name: np.round(value.numpy(), 4).tolist() for name, value in told.items()}


def _row(
    model: LanguageModel,
    ids: torch.Tensor,
    true: torch.Tensor,
    prompts: torch.Tensor,
    routers: Routers,
    keep: int,
) -> dict[str, Any]:
    ways: dict[str, Callable[[int], Layers]] = {
        "all alike": lambda _: most_costly(routers.mean, keep),
        "routed": lambda i: routers.cheapest(prompts[i], keep),
        "known": lambda i: most_costly(true[i, 1:] - true[i, 0], keep),
    }
    row: dict[str, Any] = {"layers": keep}
    for name, way in ways.items():
        found = [losses(model, ids[i : i + 1], HALF, [way(i)], lambda _: None) for i in range(len(ids))]
        row[name] = round(math.exp(float(torch.cat(found).mean() - true[:, 0].mean())), 3)
    return row


def _choices(model: LanguageModel, asked: list[tuple[list[int], list[list[int]]]], way: Any) -> float:
    pages, right = array("i", range(WINDOW // PAGE)), 0
    for prompt, answers in asked:
        model.layers = way(prompt)
        scores = []
        for answer in answers:
            logits = model.forward([Segment(pages, 0, [*prompt, *answer], len(answer) + 1)])[:-1]
            scores.append(loss(logits, answer) / len(answer))
        right += int(np.argmin(scores) == 0)
    return round(right / len(asked), 3)


if __name__ == "__main__":
    main()
