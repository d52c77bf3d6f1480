"""Checking guessed tokens beside taking them one by one, on eight kinds of prompt.

    python -m benchmarks.guesses [--rounds 3] [--bits 16] [--json FILE]

SmolLM2, greedy, at most 192 new tokens, one thread; the tokens of every variant must be those of `plain`. Variants take
turns; figures are medians of CPU seconds after the prompt, told as plain / variant. One adaptive pace serves all
prompts, as in an engine. Not measured: other models, sampling, several sequences at once.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import process_time
from types import MappingProxyType
from typing import Final

from local_runtime.base import Sampling
from local_runtime.bundled import bundled_path
from local_runtime.decoding.pace import Adaptive, Fixed, Pace
from local_runtime.models.load import LoadedModel, LoadOptions, load_model
from local_runtime.scheduler import Scheduler
from local_runtime.sequence import new_sequence
from local_runtime.text.conversation import Conversation

NEW_TOKENS: Final = 192
CONTEXT: Final = 1024
_ARTICLE: Final = (
    "The lighthouse at Farrow Point was built in 1871 from local granite. Its lamp burned oil until 1934, when a small "
    "generator was brought by boat. Three keepers lived there with their families, and a school teacher visited twice "
    "a month. In 1988 the light was made automatic and the last keeper left. Today a trust looks after the buildings, "
    "and visitors can climb the 142 steps to the lantern room from April to October."
)
_CODE: Final = """def total(items):
    result = 0
    for item in items:
        if item.price > 0:
            result = result + item.price * item.count
    return result

def average(items):
    result = 0
    number = 0
    for item in items:
        if item.price > 0:
            result = result + item.price
            number = number + 1
    return result / number
"""
PROMPTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "summarise": f"Summarise this text:\n{_ARTICLE}",
        "quote": f"Repeat the following text word by word:\n{_ARTICLE}",
        "edit": "Correct the spelling in this text and change nothing else:\n"
        + _ARTICLE.replace("granite", "granit").replace("families", "familys"),
        "code edit": f"Rename the variable result to total_price in this code:\n```python\n{_CODE}```",
        "code new": "Write a Python function that reads a CSV file and returns the rows as dictionaries.",
        "question": f"{_ARTICLE}\n\nWhen was the light made automatic, and who looks after it today?",
        "json": "Give a JSON list of five European countries with their capital, population and currency.",
        "chat": "I am planning a weekend in the mountains. What should I bring?",
    }
)
FIXED: Final = (2, 4, 7)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bits", type=int, choices=(8, 16), default=16, help="of activations")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    loaded = load_model(bundled_path("smollm2"), LoadOptions("auto", 1, CONTEXT, given.bits))
    loaded.model.use_threads(1)
    adaptive = Adaptive()
    paces: dict[str, Pace] = {"plain": Fixed(0), "adaptive": adaptive, **{f"fixed {k}": Fixed(k) for k in FIXED}}
    table = {name: _row(loaded, prompt, paces, given.rounds) for name, prompt in PROMPTS.items()}
    for name, row in table.items():
        print(f"{name:10}", "  ".join(f"{pace} {row['plain'] / row[pace]:.2f}" for pace in paces if pace != "plain"))
    total = {pace: sum(row[pace] for row in table.values()) for pace in paces}
    gain = {pace: round(total["plain"] / total[pace], 3) for pace in paces}
    print("all       ", "  ".join(f"{pace} {gain[pace]:.2f}" for pace in paces if pace != "plain"))
    if given.json:
        given.json.write_text(json.dumps({"cpu_s": table, "gain": gain}, indent=2), encoding="utf-8")


def _row(loaded: LoadedModel, prompt: str, paces: Mapping[str, Pace], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each pace on one prompt; AssertionError where one says other tokens."""
    if loaded.template is None:
        raise SystemExit("the model has no chat template")
    ids = Conversation(loaded.template, loaded.tokenizer).encode([{"role": "user", "content": prompt}])
    taken: dict[str, list[float]] = {pace: [] for pace in paces}
    said: dict[str, list[int]] = {}
    for _ in range(rounds):
        for name, pace in paces.items():
            said[name], seconds = _answer(loaded, ids, pace)
            taken[name].append(seconds)
            if said[name] != said["plain"]:
                raise AssertionError(f"{name} says other tokens than plain")
    return {name: median(seconds) for name, seconds in taken.items()}


def _answer(loaded: LoadedModel, ids: list[int], pace: Pace) -> tuple[list[int], float]:
    scheduler = Scheduler(loaded.model, 1, pace)
    sequence = new_sequence(ids, Sampling(temperature=0, max_tokens=NEW_TOKENS), loaded.tokenizer, CONTEXT)
    scheduler.add(sequence)
    scheduler.step()
    while sequence.prefilling:
        scheduler.step()
    began = process_time()
    while not sequence.finished:
        scheduler.step()
    return list(sequence.history.generated), process_time() - began


if __name__ == "__main__":
    main()
