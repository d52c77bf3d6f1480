"""A cache configuration on disk: the verifier's model, each category's threshold, and what certifies them.

It reads and writes; how thresholds are found is `calibrate`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.cache.semantic import Thresholds
from gateway.cache.verifier import Model

SHIPPED = Path(__file__).with_name("shipped.json")
FORMAT = 1


def write(path: Path, model: Model, thresholds: Thresholds, told: Mapping[str, Any]) -> None:
    """The configuration at `path`, its model beside it with the suffix npz; `told` is kept for people."""
    beside = path.with_suffix(".npz")
    model.save(beside)
    whole = {
        "format": FORMAT,
        "verifier": beside.name,
        "embedder": model.embedder,
        "thresholds": dict(thresholds.by_category),
        **told,
    }
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[Model, Thresholds]:
    """What `write` wrote. `ValueError` for anything else."""
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise ValueError(f"{path} has format {told['format']}, not {FORMAT}: calibrate again")
        thresholds = {str(name): None if at is None else float(at) for name, at in told["thresholds"].items()}
        beside = path.with_name(told["verifier"])
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no cache configuration: {error!r}") from error
    return Model.load(beside), Thresholds(thresholds)
