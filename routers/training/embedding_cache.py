"""Embeddings kept by content hash, so that texts are embedded once however many experiments use them."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from routers.training.dataset import Embed, Floats

_HASH_BYTES: Final = 16
_BATCH: Final = 256
_UNREADABLE: Final = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)

Known = dict[bytes, Floats]


def cached(embed: Embed, embedder: str, folder: Path) -> Embed:
    """`embed`, asked only for texts whose vectors are not in `folder` yet; one file for each embedder id.

    A cache that can't be read is made anew: it only saves time. Processes may share a folder: files are replaced
    whole, and what another process has added meanwhile is kept (but for a race that costs it a second embedding).
    """
    file = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', embedder)}.npz"

    def look_up(texts: Sequence[str]) -> Floats:
        known = _load(file)
        keys = [_key(text) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            known = _added(file, known, dict(zip(missing, _embedded(embed, list(missing.values())), strict=True)))
        return np.array([known[key] for key in keys], dtype=np.float32)

    return look_up


def _embedded(embed: Embed, texts: list[str]) -> list[Floats]:
    return [vector for at in range(0, len(texts), _BATCH) for vector in embed(texts[at : at + _BATCH])]


def _added(file: Path, known: Known, fresh: Known) -> Known:
    """Everything that is known now, stored too."""
    together = known | _load(file) | fresh
    _save(file, together)
    return together


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()


def _load(file: Path) -> Known:
    if not file.is_file():
        return {}
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            keys, vectors = stored["keys"], stored["vectors"]
            return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}
    except _UNREADABLE:
        return {}


def _save(file: Path, known: Known) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = np.frombuffer(b"".join(known), dtype=np.uint8).reshape(len(known), _HASH_BYTES)
    handle, made = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez(out, keys=keys, vectors=np.array(list(known.values()), dtype=np.float32))
        Path(made).replace(file)
    finally:
        Path(made).unlink(missing_ok=True)
