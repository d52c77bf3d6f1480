"""What fewer layers save and cost: layers left out by several rules, and the most that early exits could save.

    python -m benchmarks.depth [--text FILE ...] [--windows 12] [--json FILE]

On the bundled model, one thread. Perplexity is that of windows of 256 tokens of the texts (by default the documentation
of Python's own modules); choices, the share of questions (capitals, opposites) whose right answer of four is the
likeliest one; time, CPU seconds of 64 tokens written one at a time behind a window, beside all layers, by turns.
Rules are made on other windows than they are judged on:
  unified   left out evenly (arXiv:2404.06954)
  change    left out where hidden states change least in the L2 norm, over the calibration windows
  prompt    the same for each window by its first half alone, judged on its second half
  greedy    one after the other, the one without which calibration windows have the least perplexity
Early exits: at which layer the most likely token, read there through the last norm and product, or through a linear map
to the last layer's hidden states that was fitted by least squares, is that of the whole model: with an oracle that
knows it beforehand, and with a threshold on the lead in probability that keeps 98 % of tokens right.
"""

from __future__ import annotations

import argparse
import json
import math
import pydoc
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.confidence import CAPITALS, OPPOSITES
from benchmarks.runtime.likelihood import loss, windows
from local_runtime.bundled import bundled_path
from local_runtime.decoding.depth import Layers, greedy, least_change, unified
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import LanguageModel, Segment
from local_runtime.models.load import LoadedModel, LoadOptions, load_model

WINDOW: Final = 256
HALF: Final = WINDOW // 2
GREEDY_WINDOWS: Final = 5
MODULES: Final = ("argparse", "asyncio", "collections", "datetime", "decimal", "email", "json", "logging", "random")
KEPT: Final = (29, 28, 27, 26, 24, 20)
SURE: Final = 0.98
Floats = npt.NDArray[np.float32]


class Judge:
    """One model with the windows and questions that it is judged on."""

    def __init__(self, loaded: LoadedModel, texts: Sequence[str], count: int) -> None:
        self.model: LanguageModel = loaded.model
        self.count = len(loaded.model.layers)
        ids = windows(loaded.tokenizer.encode("\n\n".join(texts)), WINDOW)
        order = np.random.default_rng(0).permutation(len(ids))
        picked = [ids[i] for i in order[: 2 * count]]
        self.calibration, self.judged = picked[:count], picked[count:]
        self._pages = array("i", range(WINDOW // PAGE + 8))
        self._questions = list(questions(loaded.tokenizer.encode))

    def perplexity(self, layers: Layers, ids: Sequence[Sequence[int]], first: int = 0) -> float:
        """Of the tokens behind the first `first` of each window."""
        return math.exp(sum(self._loss(layers, one, first) for one in ids) / (len(ids) * (WINDOW - 1 - first)))

    def by_prompt(self, keep: int, changes: Sequence[Sequence[float]]) -> float:
        """Perplexity of the second halves; `changes` are those of each window's first half."""
        pairs = zip(self.judged, changes, strict=True)
        total = sum(self._loss(least_change(found, keep), one, HALF) for one, found in pairs)
        return math.exp(total / (len(self.judged) * (WINDOW - 1 - HALF)))

    def choices(self, layers: Layers) -> float:
        """Share of questions whose right answer is the likeliest."""
        self.model.layers = layers
        right = 0
        for prompt, answers in self._questions:
            scores = []
            for answer in answers:
                ids = [*prompt, *answer]
                logits = self.model.forward([Segment(self._pages, 0, ids, len(answer) + 1)])[:-1]
                scores.append(loss(logits, answer) / len(answer))
            right += int(np.argmin(scores) == 0)
        return right / len(self._questions)

    def seconds(self, layers: Layers) -> float:
        """CPU seconds of 64 steps of a token behind a window."""
        self.model.layers = layers
        self.model.forward([Segment(self._pages, 0, self.judged[0], 0)])
        began = process_time()
        for i in range(64):
            self.model.forward([Segment(self._pages, WINDOW + i, [i + 100], 1)])
        return process_time() - began

    def _loss(self, layers: Layers, ids: Sequence[int], first: int) -> float:
        self.model.layers = layers
        logits = self.model.forward([Segment(self._pages, 0, ids, WINDOW - first)])[:-1]
        return loss(logits, ids[first + 1 :])


def questions(encode: Callable[[str], list[int]]) -> Any:
    """Prompts with the right answer and three others, as tokens."""
    random = np.random.default_rng(1)
    for listed, form in ((CAPITALS, "The capital of {} is"), (OPPOSITES, "The opposite of {} is")):
        pairs = [pair.split() for pair in listed.split(", ")]
        for word, answer in pairs:
            others = random.permutation([other for _, other in pairs if other != answer])[:3]
            yield encode(form.format(word)), [encode(f" {one}") for one in (answer, *others)]


class Insides:
    """Hidden states of every layer, in float32 on torch."""

    def __init__(self) -> None:
        from local_runtime.models.transformer import Transformer

        model = load_model(bundled_path("smollm2"), LoadOptions("float32", slots=8, context_tokens=WINDOW)).model
        if not isinstance(model, Transformer):
            raise TypeError("the bundled model is not computed by torch")
        self._model = model

    def states(self, ids: Sequence[Sequence[int]]) -> Any:
        """[layers + 1, windows x tokens, hidden]: what comes in, and what each layer makes of it."""
        import torch

        from local_runtime.models.feed_forward import feed_forward
        from local_runtime.refactor.refactor import Windows

        with torch.inference_mode():
            through = Windows(self._model, torch.tensor(ids))
            found = [through.hidden.clone()]
            for i, layer in enumerate(self._model.weights.layers):
                through.attend(i)
                through.hidden += feed_forward(layer.ffn, through.normed(layer), None)
                found.append(through.hidden.clone())
            return torch.stack(found)

    def changes(self, ids: Sequence[Sequence[int]]) -> list[float]:
        """Of each layer the L2 norm of what it adds, as a share of what comes in."""
        states = self.states(ids)
        share = (states[1:] - states[:-1]).norm(dim=-1) / states[:-1].norm(dim=-1)
        return [float(value) for value in share.mean(dim=1)]

    def read(self, hidden: Any) -> Any:
        """Probabilities of the next token, were these the last layer's hidden states."""
        import torch

        from local_runtime.models.packed import plain

        weights = self._model.weights
        with torch.inference_mode():
            return (self._model.normed(hidden, weights.norm) @ plain(weights.head).T).softmax(dim=-1)


def early_exits(insides: Insides, judge: Judge) -> dict[str, Any]:
    """By layer how often its most likely token is the last one's; the mean layers of the two ways to leave early. Maps
    are fitted on one half of the calibration windows, thresholds on the other."""
    import torch

    fitted, judged = insides.states(judge.calibration), insides.states(judge.judged)
    goal = insides.read(judged[-1]).argmax(dim=-1)
    middle = fitted.shape[1] // 2
    calibrated = insides.read(fitted[-1, middle:]).argmax(dim=-1)
    rows: dict[str, Any] = {}
    for name in ("plain", "mapped"):
        first, sure = torch.full_like(goal, judge.count), torch.full_like(goal, judge.count)
        right = torch.ones_like(goal, dtype=torch.bool)
        agreement = {}
        for at in range(judge.count - 1, 5, -3):
            put = _mapped(fitted[at, :middle], fitted[-1, :middle]) if name == "mapped" else lambda states: states
            lead = _lead(insides.read(put(fitted[at, middle:])), calibrated)
            least = _threshold(*lead)
            ahead, same = _lead(insides.read(put(judged[at])), goal)
            agreement[at] = float(same.float().mean())
            first = torch.where(same, at, first)
            leaves = ahead >= least
            sure, right = torch.where(leaves, at, sure), torch.where(leaves, same, right)
        rows[name] = {
            "agreement": agreement,
            "oracle_layers": float(first.float().mean()),
            "threshold_layers": float(sure.float().mean()),
            "threshold_right": float(right.float().mean()),
        }
    return rows


def _mapped(inside: Any, last: Any) -> Callable[[Any], Any]:
    """The linear map from hidden states to the last layer's with the least squares, held a little."""
    import torch

    ones = torch.cat([inside, torch.ones(len(inside), 1)], dim=1)
    held = ones.T @ ones + 1e-2 * len(ones) * torch.eye(ones.shape[1])
    solution = torch.linalg.solve(held, ones.T @ (last - inside))
    return lambda states: states + torch.cat([states, torch.ones(len(states), 1)], dim=1) @ solution


def _lead(chances: Any, goal: Any) -> tuple[Any, Any]:
    """How far the most likely token leads, and whether it is the right one."""
    best = chances.topk(2, dim=-1)
    return best.values[:, 0] - best.values[:, 1], best.indices[:, 0] == goal


def _threshold(lead: Any, same: Any) -> float:
    """The least lead from which on `SURE` of tokens are right; more than 1 where none is enough."""
    order = lead.argsort(descending=True)
    share = np.cumsum(same[order].numpy()) / (1 + np.arange(len(order)))
    good = [i for i, value in enumerate(share) if value >= SURE and i >= 20]
    return float(lead[order[good[-1]]]) if good else 2.0


def curve(judge: Judge, insides: Insides, kept: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each rule and number of layers."""
    everything = tuple(range(judge.count))
    whole = judge.perplexity(everything, judge.judged)
    second_half = judge.perplexity(everything, judge.judged, HALF)
    changes = insides.changes(judge.calibration)
    by_prompt = [insides.changes([one[:HALF]]) for one in judge.judged]
    few = judge.calibration[:GREEDY_WINDOWS]
    by_greed = greedy(judge.count, min(kept), lambda layers: judge.perplexity(layers, few))
    rows: list[dict[str, Any]] = [
        {"rule": "all", "layers": judge.count, "perplexity": whole, "choices": judge.choices(everything)}
    ]
    for keep in kept:
        picks = {
            "unified": unified(judge.count, keep),
            "change": least_change(changes, keep),
            "greedy": next(one for one in by_greed if len(one) == keep),
        }
        for rule, layers in picks.items():
            times = [judge.seconds(everything) / judge.seconds(layers) for _ in range(5)]
            rows.append(
                {
                    "rule": rule,
                    "layers": keep,
                    "perplexity": judge.perplexity(layers, judge.judged) / whole,
                    "choices": judge.choices(layers),
                    "speed": float(np.median(times)),
                    "left_out": sorted(set(everything) - set(layers)),
                }
            )
        prompted = judge.by_prompt(keep, by_prompt)
        rows.append({"rule": "prompt", "layers": keep, "perplexity": prompted / second_half})
    return rows


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="*", default=())
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--keep", type=int, nargs="*", default=KEPT)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    texts = [path.read_text("utf-8") for path in options.text]
    texts = texts or [pydoc.plain(pydoc.render_doc(name)) for name in MODULES]
    loaded = load_model(bundled_path("smollm2"), LoadOptions(slots=1, context_tokens=2 * WINDOW))
    loaded.model.use_threads(1)
    judge, insides = Judge(loaded, texts, options.windows), Insides()
    rows, exits = curve(judge, insides, options.keep), early_exits(insides, judge)
    for line in rows:
        print(
            "  ".join(f"{key} {value:.3f}" if isinstance(value, float) else f"{value}" for key, value in line.items())
        )
    for name, found in exits.items():
        print(name, json.dumps(found))
    if options.json:
        options.json.write_text(json.dumps({"curve": rows, "exits": exits}, indent=1))


if __name__ == "__main__":
    main()
