"""How well the engine foretells how long a prompt waits for its turn.

    python -m benchmarks.waits [--requests 120] [--places 4] [--load 1.5] [--json FILE]

Prompts of 20 to 400 tokens with answers of 10 to 120 arrive at random (Poisson) at the bundled model, `--load` times as
fast as it answers them in the mean. At each arrival the expected wait is asked for and compared with the time
until the first token, less what that takes when nobody else is there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from time import perf_counter

import numpy as np

from local_runtime.base import Sampling
from local_runtime.engine import Engine


async def one(engine: Engine, prompt: list[int], tokens: int) -> float:
    """Seconds to the first piece of an answer that is read to its end."""
    began, first = perf_counter(), 0.0
    # A piece for each token, however many are guessed.
    async for _ in engine.generate(prompt, Sampling(max_tokens=tokens, temperature=1.0, seed=1)):
        first = first or perf_counter() - began
    return first


async def measure(engine: Engine, options: argparse.Namespace) -> dict[str, float]:
    """The report."""
    random = np.random.default_rng(options.seed)
    sizes = random.integers(20, 400, options.requests)
    tokens = random.integers(10, 120, options.requests)
    prompts = [random.integers(1000, 40000, size).tolist() for size in sizes]
    began = perf_counter()
    alone = [await one(engine, prompts[i], int(tokens[i])) for i in range(8)]
    answer_s = (perf_counter() - began) / 8
    per_token = sum(alone) / int(sizes[:8].sum())
    expected, calls = [], []
    for i in range(8, options.requests):
        expected.append(engine.wait_s())
        calls.append(asyncio.create_task(one(engine, prompts[i], int(tokens[i]))))
        await asyncio.sleep(random.exponential(answer_s / options.load))
    took = np.array(await asyncio.gather(*calls))
    waited = np.maximum(took - per_token * sizes[8:], 0)
    told = np.array(expected)
    return {
        "median_wait_s": float(np.median(waited)),
        "p90_wait_s": float(np.quantile(waited, 0.9)),
        "median_error_s": float(np.median(np.abs(told - waited))),
        "median_error_of_the_mean_s": float(np.median(np.abs(waited.mean() - waited))),
        "bias_s": float((told - waited).mean()),
        "correlation": float(np.corrcoef(told, waited)[0, 1]),
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=120)
    parser.add_argument("--places", type=int, default=4)
    parser.add_argument("--load", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    engine = Engine.load("bundled:smollm2", threads=1, max_batch=options.places, max_waiting=options.requests)
    engine.start()
    try:
        report = asyncio.run(measure(engine, options))
    finally:
        engine.close()
    for name, value in report.items():
        print(f"{name:30s} {value:.3f}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
