"""Embeddings kept by content hash, so that texts are embedded once however many experiments use them."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from routers.training.dataset import Embed, Floats

_HASH_BYTES = 16
_BATCH = 256


def cached(embed: Embed, embedder: str, folder: Path) -> Embed:
    """`embed`, asked only for texts whose vectors are not in `folder` yet; one file for each embedder id.

    A cache that can't be read is made anew: it only saves time.
    """
    file = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', embedder)}.npz"

    def look_up(texts: Sequence[str]) -> Floats:
        known = _load(file)
        keys = [
            hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest() for text in texts
        ]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        wanted = list(missing.values())
        vectors = [vector for at in range(0, len(wanted), _BATCH) for vector in embed(wanted[at : at + _BATCH])]
        if missing:
            known |= dict(zip(missing, vectors, strict=True))
            _save(file, known)
        return np.array([known[key] for key in keys], dtype=np.float32)

    return look_up


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).digest()


def _load(file: Path) -> dict[bytes, Floats]:
    if not file.is_file():
        return {}
    try:
        with np.load(file, allow_pickle=False) as stored:
            keys, vectors = stored["keys"], stored["vectors"]
    except (OSError, ValueError, KeyError):
        return {}
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}


def _save(file: Path, known: dict[bytes, Floats]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    keys = np.frombuffer(b"".join(known), dtype=np.uint8).reshape(len(known), _HASH_BYTES)
    handle, made = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            np.savez(out, keys=keys, vectors=np.array(list(known.values()), dtype=np.float32))
        Path(made).replace(file)
    finally:
        Path(made).unlink(missing_ok=True)
