"""What layers decided on token by token save and cost, beside all layers: by hidden states, or by trained predictors.

    python -m benchmarks.exits [--text FILE ...] [--train 60] [--windows 5] [--only change] [--json FILE]

SmolLM2 on torch in float32, one thread. Of each window of 128 tokens that is judged (documentation of Python's modules,
or the texts) the first half is a prompt, the rest is computed token by token, as an answer is; keys and values that a
layer leaves out are those of the state that went past it. Perplexity as a multiple of all layers'; `same`: how often
the most likely token is that of all layers; choices: the share of questions whose right answer of four is the
likeliest. `layers` is the share of layers computed, `products` that of multiply-adds with readings,
predictors and the last product; `speed` the CPU seconds of all layers over those of the policy.
  change    layers left out that changed least lately (arXiv:2505.14467), by the share of the largest change
  exits     SpecEE (arXiv:2504.08850) with a drafter fitted by least squares, by the share of exits to be right
"""

from __future__ import annotations

import argparse
import json
import math
import pydoc
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np
import torch

from benchmarks.depth import MODULES, questions
from benchmarks.runtime.likelihood import loss
from local_runtime.bundled import bundled_path
from local_runtime.decoding.layers.base import LayerPolicy
from local_runtime.decoding.layers.fit_exits import Fitted, Recipe, fit, reading_of
from local_runtime.decoding.layers.least_change import LeastChange
from local_runtime.decoding.layers.speculative_exit import SpeculativeExit
from local_runtime.kv.pages import PAGE
from local_runtime.models.adaptive import AdaptiveDepth
from local_runtime.models.base import Logits, Segment
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.packed import plain
from local_runtime.models.transformer import Transformer
from local_runtime.refactor.refactor import pages_for, windows_of

WINDOW: Final = 128
HALF: Final = WINDOW // 2
EXITS: Final = (6, 9, 12, 15, 18, 21, 24, 26, 28)
SHARES: Final = (0.2, 0.24, 0.27, 0.3)
SURE: Final = (0.99, 0.95, 0.9, 0.8)
QUESTIONS: Final = 38
Make = Callable[[], LayerPolicy]


@dataclass(frozen=True)
class Judged:
    """Of one policy: sums of -ln p of the windows' tokens, most likely tokens, and what it took."""

    loss: float
    best: list[int]
    choices: float
    layers: float
    products: float
    seconds: float


class Judge:
    """The model, and what it is judged on."""

    def __init__(
        self, model: Transformer, ids: torch.Tensor, asked: Sequence[tuple[list[int], list[list[int]]]]
    ) -> None:
        self._model = model
        self._ids = ids.tolist()
        self._asked = asked
        self._pages = array("i", range(WINDOW // PAGE))
        reading = reading_of(model)
        self._head = plain(model.weights.head).numel() / reading.layer

    def of(self, make: Make) -> Judged:
        """Everything about one policy."""
        base = self._model
        model = AdaptiveDepth(base.spec, base.weights, base.cache, make)
        total, best, spent, seconds = 0.0, list[int](), 0.0, 0.0
        for window in self._ids:
            model.forward([Segment(self._pages, 0, window[:HALF], 1)])
            began = process_time()
            logits = self._steps(model, HALF, window[HALF:])
            seconds += process_time() - began
            total += loss(logits[:-1], window[HALF + 1 :])
            best += logits.argmax(axis=1).tolist()
            spent += model.policies[self._pages[0]].spent
        count, tokens = len(base.weights.layers), model.tokens
        layers, whole = model.computed / tokens, count + self._head
        products = (layers + self._head + spent / tokens) / whole
        return Judged(total, best, self._choices(model), layers / count, products, seconds)

    def _steps(self, model: AdaptiveDepth, start: int, tokens: Sequence[int]) -> Logits:
        rows = [model.forward([Segment(self._pages, start + i, [token], 1)]) for i, token in enumerate(tokens)]
        return np.concatenate(rows)

    def _choices(self, model: AdaptiveDepth) -> float:
        right = 0
        for prompt, answers in self._asked:
            scores = []
            for answer in answers:
                model.forward([Segment(self._pages, 0, prompt[:-1], 1)])
                logits = self._steps(model, len(prompt) - 1, [prompt[-1], *answer[:-1]])
                scores.append(loss(logits, answer) / len(answer))
            right += int(np.argmin(scores) == 0)
        return right / len(self._asked)


def main() -> None:
    """See the module."""
    given = _parsed()
    loaded = load_model(bundled_path("smollm2"), LoadOptions("float32", pages_for(WINDOW) * PAGE // WINDOW, WINDOW))
    model = loaded.model
    if not isinstance(model, Transformer):
        raise TypeError("the bundled model is not computed by torch")
    model.use_threads(1)
    texts = [path.read_text("utf-8") for path in given.text]
    texts = texts or [pydoc.plain(pydoc.render_doc(name)) for name in MODULES]
    ids = windows_of(loaded.tokenizer.encode("\n\n".join(texts)), WINDOW, given.train + given.windows)
    asked = list(questions(loaded.tokenizer.encode))[:: 76 // QUESTIONS]
    judge = Judge(model, ids[: given.windows], asked)
    began = process_time()
    fitted = fit(model, ids[given.windows :], Recipe(EXITS))
    print(
        f"fitted on {ids[given.windows :].numel()} tokens in {process_time() - began:.0f} s; candidates hold the token"
    )
    print(f"in {fitted.hits:.3f}; agreement by layer", {at: round(share, 3) for at, share in fitted.agree.items()})
    rows = _curve(judge, model, fitted, given.only)
    if given.json:
        given.json.write_text(json.dumps({"hits": fitted.hits, "agree": fitted.agree, "curve": rows}, indent=1))


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="*", default=())
    parser.add_argument("--train", type=int, default=60, help="windows that predictors are fitted to")
    parser.add_argument("--windows", type=int, default=5, help="windows that all is judged on")
    parser.add_argument("--only", default="", help="policies whose name begins so")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _curve(judge: Judge, model: Transformer, fitted: Fitted, only: str) -> list[Mapping[str, object]]:
    """A row for each policy, printed as it comes."""
    whole, count, rows = judge.of(LayerPolicy), len(model.weights.layers), list[Mapping[str, object]]()
    makes: dict[str, Make] = {"all": LayerPolicy}
    makes |= {f"change {share}": partial(LeastChange, count, share) for share in SHARES}
    for sure in SURE:
        makes[f"exits {sure}"] = partial(SpeculativeExit, reading_of(model), fitted.drafter, fitted.held(sure))
    for name, make in makes.items():
        if not name.startswith(only):
            continue
        found = judge.of(make)
        rows.append({"policy": name, **_beside(found, whole)})
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def _beside(found: Judged, whole: Judged) -> dict[str, float]:
    count = len(found.best) - len(found.best) // HALF
    told = {
        "layers": found.layers,
        "products": found.products,
        "perplexity": math.exp((found.loss - whole.loss) / count),
        "same": float(np.mean(np.array(found.best) == whole.best)),
        "choices": found.choices,
        "speed": whole.seconds / found.seconds,
    }
    return {key: round(value, 3) for key, value in told.items()}


if __name__ == "__main__":
    main()
