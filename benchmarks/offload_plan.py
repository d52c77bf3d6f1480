"""`python -m benchmarks.offload_plan MODEL --store FOLDER --text FILE --other FILE`: is it as fast as was said before?

`fingerpost moe analyse` on one text says how many tokens a second a mixture will bring with a share of its experts in
memory. Then each share is served, in a process that begins anew, reading on in another text one token at a time.

| figure | what it is |
|---|---|
| `said` | tokens/s by the analysis |
| `served` | tokens/s of 96 tokens after 256 of the other text, one thread |
| `off` | served / said - 1 |

Not measured: several sequences at once; shares that this machine's memory does not hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from array import array
from dataclasses import asdict
from pathlib import Path

from local_runtime.experts.analysis import SHARES, analysed
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import Segment
from local_runtime.models.load import LoadOptions, load_model

READ, WRITTEN = 256, 96
MOST_SECONDS = 1800.0


def serve(model: Path, store: Path, dtype: str, budget: int, text: str) -> float:
    """Tokens a second."""
    options = LoadOptions(slots=1, expert_bytes=budget, expert_folder=store, expert_dtype=dtype, record_routes=True)
    loaded = load_model(model, options)
    ids = loaded.tokenizer.encode(text)[: READ + WRITTEN]
    pages = array("i", range(-(-(READ + WRITTEN) // PAGE)))
    loaded.model.forward([Segment(pages, 0, ids[:READ])])
    began = time.perf_counter()
    for at in range(READ, READ + WRITTEN):
        loaded.model.forward([Segment(pages, at, ids[at : at + 1], 1)])
    return WRITTEN / (time.perf_counter() - began)


def served(arguments: argparse.Namespace, budget: int) -> float:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.offload_plan", str(arguments.model), "--store", str(arguments.store)]
    command += ["--other", str(arguments.other), "--dtype", arguments.dtype, "--budget", str(budget)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=True)
    return float(done.stdout)


def main() -> int:
    """Analyse, serve, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.offload_plan", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--text", type=Path, help="what is analysed")
    parser.add_argument("--other", type=Path, required=True, help="what is served")
    parser.add_argument("--dtype", default="int4")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--budget", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.budget is not None:
        text = arguments.other.read_text("utf-8")
        print(serve(arguments.model, arguments.store, arguments.dtype, arguments.budget, text))
        return 0
    found = analysed(
        arguments.model, [arguments.text.read_text("utf-8")], arguments.store, arguments.tokens, arguments.dtype
    )
    rows = []
    for share, said in zip(SHARES, found.budgets, strict=True):
        rate = served(arguments, int(share * found.all_bytes))
        rows.append(asdict(said) | {"share": share, "served": rate, "off": rate / said.tokens_per_s - 1})
        print(f"{share:6.1%} said {said.tokens_per_s:7.2f} served {rate:7.2f} off {rows[-1]['off']:+.0%}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"computing_s": found.computing_s, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
