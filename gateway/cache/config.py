"""A cache configuration on disk: the models of verifier and classes, thresholds, and what certifies them.

It reads and writes; how thresholds are found is `calibrate`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from gateway.cache.classes import ClassesModel
from gateway.cache.semantic import Thresholds
from gateway.cache.verifier import Model
from policies.errors import PolicyError

SHIPPED = Path(__file__).with_name("shipped.json")
FORMAT = 1
_WRITTEN = ("format", "verifier", "embedder", "thresholds", "classes")


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


def calibration_of(path: Path) -> str:
    """What tells a configuration from all others: checks of what it has served are logged under it."""
    return sha256(path.read_bytes()).hexdigest()[:16]


def in_use(path: Path | None) -> Path:
    """The configuration that a setting names, or what ships. `PolicyError` for one that can't be read: at the start
    already, not at the first question."""
    if path is None:
        return SHIPPED
    try:
        read(path)
        read_served(path)
    except ValueError as error:
        raise PolicyError(f"FINGERPOST_CACHE_CONFIGURATION: {error}") from error
    return path


def tighten(source: Path, out: Path, settings: Sequence[tuple[float, Thresholds]], told: Any) -> None:
    """The configuration at `source` with these settings in place of its own, of the same shares, written to `out`.

    Beside them stands what is `told` of them. Where categories are given, no threshold is looser than the loosest one
    of these settings within the share that it is certified for. `ValueError` where `source` is none that `write` wrote.
    """
    model, thresholds = read(source)
    served = read_served(source)
    with _naming(source):
        whole = _told(source)
        loosest = max((one for one in settings if one[0] <= whole["alpha"]), default=(0.0, Thresholds({})))[1]
        for written, (_, left) in zip(whole["served"]["settings"], settings, strict=True):
            written["thresholds"] = dict(left.by_category)
    bounded = {name: _stricter(at, loosest.of(name, name)) for name, at in thresholds.by_category.items()}
    rest = {name: value for name, value in whole.items() if name not in _WRITTEN}
    write(out, model, Thresholds(bounded), {**rest, "logged": told}, served[0] if served else None)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no cache configuration: {error!r}") from error


def _stricter(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)


def _told(path: Path) -> Any:
    told: Any = json.loads(path.read_text(encoding="utf-8"))
    if told["format"] != FORMAT:
        raise ValueError(f"{path} has format {told['format']}, not {FORMAT}: calibrate again")
    return told


def _thresholds(told: Any) -> Thresholds:
    return Thresholds({str(name): None if at is None else float(at) for name, at in told.items()})
