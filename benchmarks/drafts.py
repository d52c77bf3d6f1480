"""Guesses that a draft model writes beside those that are looked up, on eight kinds of prompt.

    python -m benchmarks.drafts [--draft layers:LIST ...] [--rounds 3] [--batch 1] [--new 128] [--json FILE]

SmolLM2, greedy, one thread, with some of its own layers as draft model: by default 26, 20, 15 and 10 of 30, left out
where hidden states change least. The tokens of every variant must be those of `plain`, one at a time. `lookup` is
what the runtime does without a draft model; `fixed` checks four guesses of the draft always. CPU seconds after the
prompt, medians of rounds in turns, told as plain / variant; `right` is the share of written guesses that came true, and
`cost` what a step of the draft takes of a step of the whole model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import Final

from benchmarks.guesses import PROMPTS
from local_runtime.base import Sampling
from local_runtime.bundled import bundled_path
from local_runtime.decoding.draft_model import DraftModel
from local_runtime.decoding.pace import Adaptive, Fixed, Pace
from local_runtime.models.draft import draft_for
from local_runtime.models.load import LoadedModel, LoadOptions, load_model
from local_runtime.scheduler import Scheduler
from local_runtime.sequence import new_sequence
from local_runtime.text.conversation import Conversation

CONTEXT: Final = 1024
FIXED: Final = 4
DRAFTS: Final = (
    "layers:0-12,15-24,27-29",
    "layers:0-2,4-9,11,18-24,27-29",
    "layers:0-2,6,8,11,19-24,27-29",
    "layers:0-1,8,11,20-21,23-24,28-29",
)


@dataclass
class Variant:
    """A way to guess, with what was measured of it."""

    name: str
    draft: DraftModel | None
    pace: Pace
    guessed: int = 0
    right: int = 0


def main() -> None:
    """Measure, print, write."""
    given = _parsed()
    options = LoadOptions("auto", max(1, given.batch), CONTEXT)
    loaded = load_model(bundled_path("smollm2"), options)
    loaded.model.use_threads(1)
    variants = [Variant("plain", None, Fixed(0)), Variant("lookup", None, Adaptive())]
    for source in given.draft:
        for name, pace in (("adaptive", Adaptive()), ("fixed", Fixed(FIXED))):
            variants.append(Variant(f"{source} {name}", draft_for(loaded, source, options), pace))
    seconds = {name: _row(loaded, prompt, variants, given) for name, prompt in PROMPTS.items()}
    report = [_summary(one, seconds) for one in variants[1:]]
    for line in report:
        print(
            "  ".join(f"{key} {value:.3f}" if isinstance(value, float) else str(value) for key, value in line.items())
        )
    if given.json:
        given.json.write_text(json.dumps({"cpu_s": seconds, "summary": report}, indent=1), encoding="utf-8")


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draft", nargs="*", default=DRAFTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1, help="copies of a prompt at once")
    parser.add_argument("--new", type=int, default=128, help="tokens of an answer at most")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _summary(variant: Variant, seconds: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    gains = {name: row["plain"] / row[variant.name] for name, row in seconds.items()}
    total = sum(row["plain"] for row in seconds.values()) / sum(row[variant.name] for row in seconds.values())
    costs = variant.pace.costs() if isinstance(variant.pace, Adaptive) and variant.draft else None
    told: dict[str, object] = {"variant": variant.name, "all": total, **gains}
    if variant.guessed:
        told["right"] = variant.right / variant.guessed
    if costs:
        told["cost"] = costs.draft
    return told


def _row(loaded: LoadedModel, prompt: str, variants: list[Variant], given: argparse.Namespace) -> dict[str, float]:
    """Median CPU seconds of each variant on one prompt; AssertionError where one says other tokens."""
    if loaded.template is None:
        raise SystemExit("the model has no chat template")
    ids = Conversation(loaded.template, loaded.tokenizer).encode([{"role": "user", "content": prompt}])
    taken: dict[str, list[float]] = {one.name: [] for one in variants}
    said: dict[str, list[list[int]]] = {}
    for turn in range(given.rounds):
        for one in variants:
            said[one.name], spent = _answer(loaded, ids, one, given, f"{prompt} {turn}")
            taken[one.name].append(spent)
            if said[one.name] != said["plain"]:
                raise AssertionError(f"{one.name} says other tokens than plain")
    return {name: median(spent) for name, spent in taken.items()}


def _answer(
    loaded: LoadedModel, ids: list[int], variant: Variant, given: argparse.Namespace, circle: str
) -> tuple[list[list[int]], float]:
    """Copies end differently, so that they are not one; what the draft model has read is not found again."""
    scheduler = Scheduler(loaded.model, given.batch, variant.pace, draft=variant.draft)
    sampling = Sampling(temperature=0, max_tokens=given.new)
    prompts = [[*ids, *ids[: i * 3]] for i in range(given.batch)]
    parts = [new_sequence(prompt, sampling, loaded.tokenizer, CONTEXT, circle) for prompt in prompts]
    for part in parts:
        scheduler.add(part)
    scheduler.step()
    while any(part.prefilling for part in parts):
        scheduler.step()
    began = process_time()
    while not scheduler.idle:
        scheduler.step()
    variant.guessed += scheduler.guessed
    variant.right += scheduler.guessed_right
    return [part.history.generated for part in parts], process_time() - began


if __name__ == "__main__":
    main()
