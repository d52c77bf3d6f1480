"""`python -m benchmarks.kv_policies [--json FILE]`: what dropping or rounding keys and values costs on SmolLM2.

Torch path, the bundled weights. Every policy reads the same windows of 2,048 tokens, half of them Python's help topics
(`pydoc_data.topics`), half sources of the standard library, 64 tokens a pass; its policy works after each pass.

| figure | what it is |
|---|---|
| `perplexity` | of the second half of the windows; `times_full`: divided by that of the full cache |
| `recall` | part of the digits of 8 numbers, each hidden in 1,000 tokens of help topics and asked for at the end |
| `recall_early` | the same where the prompt is thinned while it comes, 64 tokens a pass |
| `mb` | keys and values of a window, MB, after its last pass |
| `decode_ms` | median time of a token after a window |

`bits tuned` come from a search on other text (`--tune N` tokens of it). Not measured: other models, answers of
generation in the wild, contexts beyond 2,048 tokens.
"""

from __future__ import annotations

import argparse
import inspect
import json
import statistics
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from local_runtime.bundled import bundled_path
from local_runtime.kv.pages import PAGE
from local_runtime.kv.policies.base import KvPolicy
from local_runtime.kv.policies.cake import Cake
from local_runtime.kv.policies.mixed import MixedBits
from local_runtime.kv.policies.prefix import PrefixKv
from local_runtime.kv.policies.window import SinkWindow
from local_runtime.kv.tuning import Pair, cheapest, sensitivities
from local_runtime.models.base import Logits, Segment
from local_runtime.models.compressed import Compressed
from local_runtime.models.load import LoadedModel, LoadOptions, load_model

WINDOW, CHUNK, DECODED = 2048, 64, 24
BUDGETS = (128, 256, 512, 1024)
FULL = "bits:16,16"
UNIFORM = ((8, 8), (8, 4), (4, 8), (4, 4), (4, 2), (2, 4), (2, 2))
NEEDLE_CONTEXT, DEPTHS = 1000, (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


@dataclass(frozen=True, slots=True)
class Row:
    """One policy's figures; see the module's docstring."""

    policy: str
    perplexity: float
    mb: float
    decode_ms: float
    recall: float
    recall_early: float | None = None
    times_full: float = 1.0


@dataclass(frozen=True, slots=True)
class Bench:
    """Model, windows to score and prompts with the number that is asked for."""

    model: Compressed
    windows: list[list[int]]
    needles: list[tuple[list[int], list[int]]]


def passes(model: Compressed, tokens: Sequence[int], chunk: int = CHUNK, *, wanted: int = CHUNK) -> Iterator[Logits]:
    """Logits of the last `wanted` rows of every pass over a sequence that begins; 0: of its very last row."""
    pages = array("i", range(model.page_count))
    for at in range(0, len(tokens), chunk):
        part = tokens[at : at + chunk]
        last = at + chunk >= len(tokens)
        yield model.forward([Segment(pages, at, part, min(wanted, len(part)) or int(last))])


def losses(logits: Logits, targets: Sequence[int]) -> torch.Tensor:
    """Negative log likelihoods in nats, [targets]."""
    return torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.tensor(targets), reduction="none")


def perplexity(bench: Bench) -> tuple[float, float, float]:
    """Perplexity of the windows' second halves; MB and ms a token at the end of the last."""
    told = []
    for window in bench.windows:
        for number, logits in enumerate(passes(bench.model, window[:WINDOW])):
            if (at := number * CHUNK) >= WINDOW // 2:
                told.append(losses(logits, window[at + 1 : at + CHUNK + 1]))
    mb = bench.model.bytes / 1e6
    return float(torch.cat(told).mean().exp()), mb, _decode_ms(bench)


def _decode_ms(bench: Bench) -> float:
    pages, times = array("i", range(bench.model.page_count)), []
    for i in range(DECODED):
        began = perf_counter()
        bench.model.forward([Segment(pages, WINDOW + i, [bench.windows[0][i]], 1)])
        times.append(perf_counter() - began)
    return statistics.median(times) * 1e3


def recall(bench: Bench, chunk: int) -> float:
    """Part of the digits that are the most likely token, given those before."""
    right = [hit for prompt, answer in bench.needles for hit in _hits(bench.model, prompt, answer, chunk)]
    return sum(right) / len(right)


def _hits(model: Compressed, prompt: list[int], answer: list[int], chunk: int) -> Iterator[bool]:
    """Whether each token of the answer is the most likely one; all are asked for after the policy has been at work."""
    pages = array("i", range(model.page_count))
    for _ in passes(model, prompt[:-1], chunk, wanted=0):
        pass
    for i, token in enumerate([prompt[-1], *answer[:-1]]):
        yield bool(model.forward([Segment(pages, len(prompt) - 1 + i, [token], 1)])[-1].argmax() == answer[i])


def measure(bench: Bench, name: str, policy: KvPolicy, early: KvPolicy | None) -> Row:
    """All figures of a policy; `early`: the same policy, thinning prompts while they come."""
    bench.model.policy = policy
    score, mb, decode = perplexity(bench)
    found = recall(bench, WINDOW if policy.after_prompt else CHUNK)
    found_early = None
    if early is not None:
        bench.model.policy = early
        found_early = recall(bench, CHUNK)
    return Row(name, round(score, 4), round(mb, 3), round(decode, 2), found, found_early)


def texts() -> tuple[str, str]:
    """Prose and program: help topics, and sources of the standard library."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics)), "".join(map(inspect.getsource, (argparse, statistics)))


def prepared(loaded: LoadedModel, count: int, needles: int) -> tuple[Bench, list[int]]:
    """`count` windows of each text, at most 8 `needles`, and prose that is in neither."""
    model, encode = loaded.model, loaded.tokenizer.encode
    if not isinstance(model, Compressed):
        raise TypeError("a kv_policy other than full is needed")
    prose, program = (encode(text[:400_000]) for text in texts())
    windows = [text[i * WINDOW : (i + 1) * WINDOW + 1] for text in (prose, program) for i in range(count)]
    hay = prose[count * WINDOW :]
    return Bench(model, windows, list(_needles(encode, hay))[:: len(DEPTHS) // needles]), hay[
        len(DEPTHS) * NEEDLE_CONTEXT :
    ]


def _needles(encode: Callable[[str], list[int]], hay: list[int]) -> Iterator[tuple[list[int], list[int]]]:
    numbers = np.random.default_rng(0).integers(10_000, 99_999, len(DEPTHS))
    for i, number in enumerate(numbers):
        text = hay[(i % len(DEPTHS)) * NEEDLE_CONTEXT :][:NEEDLE_CONTEXT]
        cut = int(DEPTHS[i % len(DEPTHS)] * NEEDLE_CONTEXT)
        needle = encode(f"\n\nThe pass key is {number}. Remember it. {number} is the pass key.\n\n")
        whole = encode(f"\n\nWhat is the pass key? The pass key is {number}")
        # The space before the number says nothing: it belongs to the question.
        yield [*text[:cut], *needle, *text[cut:], *whole[:-5]], whole[-5:]


def tuned(bench: Bench, text: list[int], targets: Sequence[float]) -> dict[float, list[Pair]]:
    """Pairs of bits a layer for each wanted average, by divergence from the full cache on `text`."""
    model = bench.model

    def logits(pairs: Sequence[Pair]) -> torch.Tensor:
        model.policy = MixedBits(pairs)
        return torch.from_numpy(np.concatenate(list(passes(model, text, 2 * CHUNK, wanted=2 * CHUNK)))).log_softmax(-1)

    full = logits([(16, 16)])
    found = sensitivities(
        len(model.spec.layers),
        lambda pairs: float(torch.nn.functional.kl_div(logits(pairs), full, reduction="batchmean", log_target=True)),
    )
    return {bits: cheapest(found, bits) for bits in targets}


def rows(bench: Bench, tuning: dict[float, list[Pair]], only: Sequence[str]) -> Iterator[Row]:
    """Every policy, or those named in `only`, the full cache first."""
    group = bench.model.spec.heads // bench.model.spec.kv_heads
    full = measure(bench, "full", MixedBits([(16, 16)]), None)
    yield full
    plans: list[tuple[str, KvPolicy, KvPolicy | None]] = []
    plans += [(f"window:{budget}", SinkWindow(budget), None) for budget in BUDGETS]
    for kind in (Cake, PrefixKv):
        name = "cake" if kind is Cake else "prefix"
        plans += [(f"{name}:{b}", kind(b, group), kind(b, group, after_prompt=False)) for b in BUDGETS]
    plans += [(f"bits:{keys},{values}", MixedBits([(keys, values)]), None) for keys, values in UNIFORM]
    plans += [(f"bits tuned to {bits:g}", MixedBits(pairs), None) for bits, pairs in tuning.items()]
    for name, policy, early in [plan for plan in plans if not only or plan[0] in only]:
        row = measure(bench, name, policy, early)
        yield Row(**{**asdict(row), "times_full": round(row.perplexity / full.perplexity, 4)})


def main() -> int:
    """Measure, print a table as it grows, write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv_policies", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--windows", type=int, default=1, help="windows of each of the two texts (default 1)")
    parser.add_argument("--needles", type=int, choices=(1, 2, 4, 8), default=8, help="hidden numbers (default 8)")
    parser.add_argument("--tune", type=int, default=384, help="tokens to search bits on, 0: no search (default 384)")
    parser.add_argument("--only", action="append", default=[], help="measure only this row (may be repeated)")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    options = LoadOptions(slots=1, context_tokens=WINDOW + 4 * PAGE, kv_policy=FULL)
    loaded = load_model(bundled_path("smollm2"), options)
    bench, rest = prepared(loaded, arguments.windows, arguments.needles)
    bench.model.use_threads(arguments.threads)
    tuning = tuned(bench, rest[: arguments.tune], (6, 5, 4, 3)) if arguments.tune else {}
    told = []
    for row in rows(bench, tuning, arguments.only):
        told.append(asdict(row))
        print("  ".join(f"{value}" for value in told[-1].values()), flush=True)
        if arguments.json:
            found = {"rows": told, "pairs": {f"{bits:g}": pairs for bits, pairs in tuning.items()}}
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
