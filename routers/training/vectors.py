"""Embeddings and facts of queries beside a data folder, so that it can be learned from without any text."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from routers.decision import FEATURES_VERSION
from routers.inputs import FACTS
from routers.training.dataset import Floats
from routers.training.errors import DataError, shown

FILE: Final = "embeddings.npz"
_ARRAYS: Final = ("query_ids", "embeddings", "facts", "tokens", "embedder", "features_version")
_FIX: Final = "export the data again"


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Of queries in rows: unit embeddings [V, D], facts [V, len(FACTS)] and tokens [V] as the gateway saw them.

    NaN in `facts` and `tokens` is *not known*. `embedder` is the id of what made the embeddings.
    """

    query_ids: tuple[str, ...]
    embeddings: Floats
    facts: Floats
    tokens: Floats
    embedder: str


def save_vectors(file: Path, vectors: Vectors) -> None:
    """Write them, embeddings as float16; not atomic, since a whole folder is."""
    np.savez_compressed(
        file,
        query_ids=np.array(vectors.query_ids, dtype=np.str_),
        embeddings=vectors.embeddings.astype(np.float16),
        facts=vectors.facts.astype(np.float32),
        tokens=vectors.tokens.astype(np.float32),
        embedder=np.array(vectors.embedder),
        features_version=np.array(FEATURES_VERSION),
    )


def load_vectors(folder: Path) -> Vectors | None:
    """What lies in a folder; None where nothing does. Raises `DataError` for what is cut off or does not fit."""
    file = folder / FILE
    if not file.exists():
        return None
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in _ARRAYS}
    except KeyError as error:
        raise DataError(f"lacks the array {error}", file=FILE, fix=_FIX) from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError("is cut off or damaged", file=FILE, fix="copy it again, or export the data again") from error
    version = int(arrays["features_version"])
    if version != FEATURES_VERSION:
        raise DataError(f"has features of version {version}, not {FEATURES_VERSION}", file=FILE, fix=_FIX)
    ids = tuple(map(str, arrays["query_ids"]))
    vectors = Vectors(
        ids, _unit(ids, arrays["embeddings"]), _of_shape(arrays, "facts", (len(ids), len(FACTS))),
        _of_shape(arrays, "tokens", (len(ids),)), str(arrays["embedder"]),
    )  # fmt: skip
    if len(set(ids)) < len(ids):
        twice = next(one for place, one in enumerate(ids) if one in ids[:place])
        raise DataError(f"has two vectors for {shown(twice)}", file=FILE, field="query_ids", fix=_FIX)
    return vectors


def _of_shape(arrays: dict[str, Floats], name: str, shape: tuple[int, ...]) -> Floats:
    if arrays[name].shape != shape:
        raise DataError(f"has shape {arrays[name].shape}, not {shape}", file=FILE, field=name, fix=_FIX)
    return arrays[name].astype(np.float32)


def _unit(ids: tuple[str, ...], stored: Floats) -> Floats:
    """Rounded to 16 bits they are no longer quite of length 1."""
    if stored.ndim != 2 or len(stored) != len(ids):
        raise DataError(f"has shape {stored.shape}, not ({len(ids)}, D)", file=FILE, field="embeddings", fix=_FIX)
    vectors = stored.astype(np.float32)
    lengths = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    wrong = ~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0)
    if wrong.any():
        what = f"the vector of {shown(ids[int(wrong.argmax())])} is empty or has values that are no numbers"
        raise DataError(what, file=FILE, field="embeddings", fix=_FIX)
    return np.asarray(vectors / lengths, dtype=np.float32)
