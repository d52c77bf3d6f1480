"""A cache configuration on disk: the models of verifier and classes, thresholds, and what certifies them.

It reads and writes; how thresholds are found is `calibrate`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.cache.classes import ClassesModel
from gateway.cache.semantic import Thresholds
from gateway.cache.verifier import Model

SHIPPED = Path(__file__).with_name("shipped.json")
FORMAT = 1


def write(
    path: Path, model: Model, thresholds: Thresholds, told: Mapping[str, Any], classes: ClassesModel | None = None
) -> None:
    """The configuration at `path`, its models beside it with the suffixes npz and classes.npz.

    `told` is kept for people, but for `served`: the settings by share that hold with these classes.
    """
    beside = path.with_suffix(".npz")
    model.save(beside)
    whole: dict[str, Any] = {
        "format": FORMAT,
        "verifier": beside.name,
        "embedder": model.embedder,
        "thresholds": dict(thresholds.by_category),
        **told,
    }
    if classes is not None:
        whole["classes"] = path.with_suffix(".classes.npz").name
        classes.save(path.with_name(whole["classes"]))
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[Model, Thresholds]:
    """What `write` wrote. `ValueError` for anything else."""
    with _naming(path):
        told = _told(path)
        thresholds = _thresholds(told["thresholds"])
        beside = path.with_name(told["verifier"])
    return Model.load(beside), thresholds


def read_served(path: Path) -> tuple[ClassesModel, list[tuple[float, Thresholds]]] | None:
    """The classes of what `write` wrote, and the thresholds for each share of wrong hits that is certified with them.

    None where it has none. `ValueError` for anything else.
    """
    with _naming(path):
        told = _told(path)
        if "classes" not in told:
            return None
        settings = [(float(one["alpha"]), _thresholds(one["thresholds"])) for one in told["served"]["settings"]]
        beside = path.with_name(told["classes"])
    return ClassesModel.load(beside), settings


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no cache configuration: {error!r}") from error


def _told(path: Path) -> Any:
    told: Any = json.loads(path.read_text(encoding="utf-8"))
    if told["format"] != FORMAT:
        raise ValueError(f"{path} has format {told['format']}, not {FORMAT}: calibrate again")
    return told


def _thresholds(told: Any) -> Thresholds:
    return Thresholds({str(name): None if at is None else float(at) for name, at in told.items()})
