"""Which cheap signal of an answer tells best whether it is right, on questions that the bundled model half knows.

    python -m benchmarks.confidence [--json FILE]

Capitals, sums and opposites, each asked in two ways, answered greedily by SmolLM2 with the alternatives of each token
told. An answer is right where the expected word is in its first sentence. A signal's AUC is the chance that it ranks a
right answer above a wrong one (.5: it knows nothing), with a bootstrap interval over questions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gateway.strategies.signals import first_entropy, mean_logprob, mean_margin
from local_runtime.base import Sampling, TokenLogprob
from local_runtime.engine import Engine

CAPITALS = (
    "France Paris, Italy Rome, Spain Madrid, Germany Berlin, Japan Tokyo, China Beijing, Russia Moscow, Egypt Cairo, "
    "Greece Athens, Portugal Lisbon, Austria Vienna, Hungary Budapest, Poland Warsaw, Norway Oslo, Sweden Stockholm, "
    "Finland Helsinki, Denmark Copenhagen, Ireland Dublin, Belgium Brussels, Turkey Ankara, Iran Tehran, Iraq Baghdad, "
    "India Delhi, Thailand Bangkok, Vietnam Hanoi, Indonesia Jakarta, Australia Canberra, Canada Ottawa, Cuba Havana, "
    "Peru Lima, Chile Santiago, Kenya Nairobi, Ghana Accra, Morocco Rabat, Mongolia Ulaanbaatar, Nepal Kathmandu, "
    "Bulgaria Sofia, Romania Bucharest, Ukraine Kyiv, Latvia Riga, Estonia Tallinn, Lithuania Vilnius, Malta Valletta, "
    "Iceland Reykjavik, Senegal Dakar, Ethiopia Addis, Angola Luanda, Bolivia Sucre, Ecuador Quito, Uruguay Montevideo"
)
OPPOSITES = (
    "hot cold, big small, fast slow, up down, light dark, wet dry, old young, rich poor, strong weak, happy sad, "
    "early late, full empty, hard soft, high low, loud quiet, near far, open closed, right left, sharp blunt, "
    "thick thin, true false, clean dirty, deep shallow, narrow wide, expensive cheap, brave cowardly, "
    "victory defeat, always never"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the word that a right answer has."""

    text: str
    word: str


def questions() -> list[Asked]:
    """All of them."""
    found = []
    for country, capital in (pair.split() for pair in CAPITALS.split(", ")):
        found.append(Asked(f"What is the capital of {country}?", capital))
        found.append(Asked(f"Name the capital city of {country} in one word.", capital))
    for word, opposite in (pair.split() for pair in OPPOSITES.split(", ")):
        found.append(Asked(f"What is the opposite of '{word}'?", opposite))
        found.append(Asked(f"Give one word that means the opposite of '{word}'.", opposite))
    for a in range(2, 40, 3):
        found += [Asked(f"What is {a} plus {b}?", str(a + b)) for b in (3, 7, 12, 25)]
    return found


async def answered(engine: Engine, asked: Asked) -> tuple[bool, dict[str, float]]:
    """Whether the answer is right, and its signals."""
    prompt = engine.encode_chat([{"role": "user", "content": asked.text}])
    text, tokens = "", list[TokenLogprob]()
    async for delta in engine.generate(
        prompt, Sampling(max_tokens=32, temperature=0, logprobs=True, top_logprobs=5), "all"
    ):
        text += delta.text
        tokens += delta.logprobs
    told = {"content": [_told(token) | {"top_logprobs": [_told(top) for top in token.top]} for token in tokens]}
    first = re.split(r"(?<=[.!?])\s", text.strip(), maxsplit=1)[0]
    right = re.search(rf"\b{re.escape(asked.word)}\b", first, re.IGNORECASE) is not None
    entropy, margin = first_entropy(told), mean_margin(told)
    return right, {
        "logprob_mean": mean_logprob(told) or 0.0,
        "first_entropy": -(entropy or 0.0),
        "margin_mean": margin or 0.0,
        "length": -float(len(tokens)),
    }


def _told(token: TokenLogprob) -> dict[str, object]:
    return {"token": token.token, "logprob": token.logprob}


def auc(scores: np.ndarray, right: np.ndarray) -> float:
    """Ties count half."""
    difference = scores[right][:, None] - scores[~right][None, :]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


async def measure(engine: Engine) -> dict[str, dict[str, float]]:
    """AUC of every signal, and how many answers were right."""
    rows = [await answered(engine, asked) for asked in questions()]
    right = np.array([row[0] for row in rows])
    random = np.random.default_rng(0)
    picks = [random.integers(0, len(rows), len(rows)) for _ in range(1000)]
    report = {"all": {"questions": float(len(rows)), "right": float(right.mean())}}
    for name in rows[0][1]:
        scores = np.array([row[1][name] for row in rows])
        drawn = [auc(scores[pick], right[pick]) for pick in picks]
        low, high = np.quantile(drawn, [0.025, 0.975])
        report[name] = {"auc": auc(scores, right), "low": float(low), "high": float(high)}
    return report


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engine = Engine.load("bundled:smollm2", threads=1)
    engine.start()
    try:
        report = asyncio.run(measure(engine))
    finally:
        engine.close()
    for name, row in report.items():
        print(f"{name:16s}", "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
