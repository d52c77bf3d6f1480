"""Finished stages of a training run on disk, so that an interrupted run goes on where it was; knows no kind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from routers.artifact import Array
from routers.training.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Stages are arrays by name. `key` names data, settings and seed: stages of another run are never taken up.

    Without a folder nothing is kept and every stage is made.
    """

    folder: Path | None
    key: str

    @classmethod
    def of(cls, folder: str | Path | None, data: Dataset, settings: Mapping[str, Any], seed: int) -> Self:
        """The checkpoint of one run; `settings` are those that change what is learned."""
        if folder is None:
            return cls(None, "")
        told = json.dumps([data.sha256(), data.embedder, dict(settings), seed], sort_keys=True, default=str)
        return cls(Path(folder), hashlib.sha256(told.encode()).hexdigest()[:16])

    def stage(self, name: str, make: Callable[[], Mapping[str, Array]]) -> Mapping[str, Array]:
        """What an earlier run made of this stage, else what `make` gives, which is then kept; written whole or not."""
        if self.folder is None:
            return make()
        file = self.folder / f"{name}-{self.key}.npz"
        found = _load(file)
        if found is None:
            found = make()
            _save(file, found)
        return found


def _load(file: Path) -> Mapping[str, Array] | None:
    """None where nothing usable lies there: a stage only saves time."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _save(file: Path, arrays: Mapping[str, Array]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez(out, allow_pickle=False, **dict(arrays))
        Path(made).replace(file)
    finally:
        Path(made).unlink(missing_ok=True)
