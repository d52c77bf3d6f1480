"""Trains one router kind on outcomes and keeps it as an artifact; also `python -m routers.training.train`.

Knows no embedder: vectors come from the caller, or from the cache that `fingerpost train` has filled.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from routers.artifact import Artifact, read_artifact
from routers.find import router_class
from routers.learned import LearnedRouter, Progress, silent
from routers.training.choices import TRADE_OFFS
from routers.training.dataset import Dataset, Embed, Floats
from routers.training.device import cuda_is_there
from routers.training.embedding_cache import cached
from routers.training.errors import DataError
from routers.training.fingerprints import with_questions
from routers.training.judge import fit, judge_round, learned_kinds
from routers.training.read import read_folder
from routers.training.references import BEST_SINGLE
from routers.training.splits import by_group
from routers.training.summary import metrics_of
from routers.training.union import union

DEVICES = ("auto", "cpu", "cuda")
SHARES = (0.9, 0.1, 0.0)
# Of what is measured on queries held back, what depends on data and seed alone: clocks would change the hash.
MEASURED = ("aiq_log", "brier", "ece", "interval_coverage", *(f"reward_{name}" for name in TRADE_OFFS), "score_PF")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train: the kind, its seed and settings."""

    kind: str
    seed: int = 0
    settings: Mapping[str, Any] | None = None


def train(data: Dataset, recipe: Recipe, progress: Progress = silent) -> Artifact:
    """Fit on nine tenths of the questions and measure on the rest; the same data and recipe give the same hash.

    What is measured on is not shown to the fit, which keeps back a part of its own to tune on. The artifact keeps which
    questions it learned from, so that it is never judged on them.

    Raises `ValueError` naming what the data or settings lack.
    """
    learned_kinds([recipe.kind])
    try:
        rows = by_group(data, recipe.seed, SHARES)
    except ValueError as error:
        raise DataError(f"data set '{data.name}': {error}") from error
    learning, held = data.rows(rows[0]), data.rows(rows[1])
    router = fit(recipe.kind, learning, None, recipe.seed, recipe.settings, progress)
    progress(1.0, "measuring")
    metrics = {**router.artifact.metrics, **measured(router, learning, held)}
    arrays = with_questions(router.artifact, learning)
    made = replace(router.artifact, arrays=arrays, data=facts_of_data(data), metrics=metrics)
    _read_back(type(router), made)
    return made


def _read_back(kind: type[LearnedRouter], made: Artifact) -> None:
    """What can't be read back must not take the place of what can."""
    with tempfile.TemporaryDirectory(prefix="artifact-") as folder:
        made.save(Path(folder) / "made")
        kind.from_artifact(read_artifact(Path(folder) / "made"))


def facts_of_data(data: Dataset) -> dict[str, Any]:
    """What an artifact says of its data: names, counts and hash; no text."""
    return {
        "name": data.name,
        "sha256": data.sha256(),
        "queries": len(data),
        "outcomes": int(data.observed.sum()),
        "tasks": len(set(data.tasks)),
        "models": sorted(card.id for card in data.models),
    }


def measured(router: LearnedRouter, learning: Dataset, held: Dataset) -> dict[str, Any]:
    """Metrics on queries that were held back from the fit, and the best single model's there."""
    judged = judge_round("held back", learning, held, {router.kind: (router, 0.0)})
    found = {}
    for name in (router.kind, BEST_SINGLE):
        metrics = metrics_of(judged, name)
        found[name] = {one: round(metrics[one], 6) for one in MEASURED if metrics.get(one) == metrics.get(one, 0)}
    return {"held_back": found[router.kind], "best_single": found[BEST_SINGLE], "held_back_queries": len(held)}


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs; values are JSON, or else text. `ValueError` names the pair that is none."""
    found: dict[str, Any] = {}
    for pair in given:
        key, sign, value = pair.partition("=")
        if not sign or not re.fullmatch(r"[a-z][a-z0-9_]*", key):
            raise ValueError(f"--set {pair!r} is not key=value, such as --set epochs=40")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def settings_for(
    kind: str, given: Mapping[str, Any], checkpoint: Path | None = None, device: str = "auto"
) -> dict[str, Any]:
    """The given settings, with the device and a folder for checkpoints where the kind says that it takes them.

    A kind says so by the class attribute `takes`, a collection of names of settings. `device` is auto, cpu or cuda;
    `ValueError` where it is cuda and that can't be used.
    """
    if device not in DEVICES:
        raise ValueError(f"--device {device!r} is none of {', '.join(DEVICES)}")
    takes = getattr(router_class(kind), "takes", ())
    found = dict(given)
    if device == "cuda":
        _check_cuda(kind, "device" in takes)
    if "device" in takes and "device" not in found and device != "cpu" and cuda_is_there():
        found["device"] = "cuda"
    if "checkpoint" in takes and checkpoint is not None:
        found.setdefault("checkpoint", str(checkpoint))
    return found


def _check_cuda(kind: str, takes_it: bool) -> None:
    if not takes_it:
        raise ValueError(f"--device cuda: kind '{kind}' does not learn on a GPU: leave --device out")
    if not cuda_is_there():
        raise ValueError("--device cuda: torch finds no GPU here: leave --device out, or install a torch with CUDA")


def checkpoint_of(out: Path, *, resume: bool) -> Path:
    """Where a fit that writes to `out` keeps its checkpoints; emptied unless it is to be resumed."""
    folder = out.with_name(f".{out.name}-checkpoint")
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    return folder


def only_cached(folder: Path, embedder: str) -> Embed:
    """Vectors of a cache; `DataError` where a text has none."""

    def missing(texts: Sequence[str]) -> Floats:
        raise DataError(
            f"{len(texts)} or more texts have no vector of '{embedder}' in {folder}",
            fix="run `fingerpost train` with the same --data once: it embeds and fills the cache",
        )

    return cached(missing, embedder, folder)


def note_embedder(folder: Path, embedder: str) -> None:
    """Keep the id of the embedder whose vectors lie in a cache, since file names can't hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "embedder.txt").write_text(embedder + "\n", encoding="utf-8")


def noted_embedder(folder: Path) -> str:
    """The embedder of a cache; `DataError` where none was kept."""
    file = folder / "embedder.txt"
    if not file.is_file():
        raise DataError(
            f"{folder} is no cache of embeddings", fix="run `fingerpost train` once, which fills it, or give --embedder"
        )
    return file.read_text(encoding="utf-8").strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the shell without the gateway; 2 where something is wrong, with one line that says what."""
    parser = argparse.ArgumentParser(prog="python -m routers.training.train", description=main.__doc__)
    parser.add_argument("--data", type=Path, action="append", required=True, help="a folder; give more for their union")
    parser.add_argument("--kind", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path, required=True, help="the cache that `fingerpost train` fills")
    parser.add_argument("--embedder", default="", help="its embedder's id [the one it was filled by]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint of an interrupted run")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where networks learn")
    given = parser.parse_args(arguments)
    try:
        embedder = given.embedder or noted_embedder(given.embeddings)
        embed = only_cached(given.embeddings, embedder)
        data = union([read_folder(one, embed, embedder) for one in given.data], every_model=True)
        checkpoint = checkpoint_of(given.out, resume=given.resume)
        settings = settings_for(given.kind, parse_settings(given.settings), checkpoint, given.device)
        made = train(data, Recipe(given.kind, given.seed, settings), _printed)
        made.save(given.out)
        shutil.rmtree(checkpoint, ignore_errors=True)
    except (ValueError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    print(f"{given.out}: {made.kind}, sha256 {made.sha256}")
    return 0


def _printed(share: float, what: str) -> None:
    end = "\r" if sys.stderr.isatty() and share < 1 else "\n"
    print(f"{share:6.1%}  {what:<60}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
