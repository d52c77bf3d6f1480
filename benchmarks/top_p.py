"""`python -m benchmarks.top_p MIXTURE --text FILE [--json FILE]`: fewer experts where a router is sure.

Windows of 512 tokens of the text; by `expert_top_p`, the likelihood of experts that is enough (None: the mixture's own
number of them): perplexity as a multiple of that number's, and how many experts a token takes of a layer. On the native
kernels, weights in 8 bits. Not measured: speed, which goes with the experts that are read.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from array import array
from pathlib import Path

import numpy as np

from local_runtime.experts.trace import Recorder
from local_runtime.kv.pages import PAGE
from local_runtime.models.base import Segment
from local_runtime.models.load import LoadOptions, load_model
from local_runtime.models.native import NativeModel

WINDOW, CHUNK = 512, 128
SHARES = (None, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3)


def measure(path: Path, text: str, windows: int, share: float | None, store: Path) -> tuple[float, float]:
    """Mean negative log likelihood, and experts a token takes of a layer."""
    options = LoadOptions(slots=1, expert_top_p=share, expert_bytes=1 << 40, expert_folder=store, record_routes=True)
    loaded = load_model(path, options)
    model = loaded.model
    if not isinstance(model, NativeModel) or model.experts is None:
        raise SystemExit(f"{path} has no experts that the native kernels compute")
    sparse = [i for i, layer in enumerate(model.spec.layers) if layer.sparse]
    model.experts.recorder = recorder = Recorder(sparse)
    ids, pages = loaded.tokenizer.encode(text), array("i", range(WINDOW // PAGE))
    losses = []
    for first in range(0, min(windows, len(ids) // WINDOW) * WINDOW, WINDOW):
        window = ids[first : first + WINDOW]
        for at in range(0, WINDOW, CHUNK):
            logits = model.forward([Segment(pages, at, window[at : at + CHUNK], CHUNK)]).astype(np.float64)
            targets = window[at + 1 : at + CHUNK + 1]
            rows = logits[: len(targets)]
            most = rows.max(axis=1)
            totals = most + np.log(np.exp(rows - most[:, None]).sum(axis=1))
            losses.append(totals - rows[np.arange(len(targets)), targets])
    return float(np.concatenate(losses).mean()), float((recorder.routes() >= 0).sum(axis=2).mean())


def main() -> int:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.top_p", description=__doc__.splitlines()[0])
    parser.add_argument("mixture", type=Path)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, float]] = []
    text = arguments.text.read_text("utf-8")
    with tempfile.TemporaryDirectory() as store:
        for share in SHARES:
            loss, taken = measure(arguments.mixture, text, arguments.windows, share, Path(store) / "experts")
            perplexity = float(np.exp(loss))
            times = perplexity / rows[0]["perplexity"] if rows else 1.0
            rows.append({"top_p": share or 0.0, "perplexity": perplexity, "times": times, "experts": taken})
            print(f"{share or 'all':>5}  perplexity {perplexity:8.3f}  x {times:.3f}  experts {taken:.2f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
