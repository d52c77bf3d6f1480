"""Finds an embedder by the stem of its file and loads it; must know none of them by name.

A new embedder is one new file here with `load(cache_dir: Path, threads: int) -> Embedder`.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import local_runtime.embedders as folder
from local_runtime.embedders.base import Embedder
from local_runtime.embedders.errors import EmbedderNotInstalled, UnknownEmbedder

SUPPORT = frozenset({"base", "errors", "find", "model_thread", "worker"})


def known_embedders() -> tuple[str, ...]:
    """The names that `load_embedder` takes, sorted; found without importing any of them."""
    modules = pkgutil.iter_modules(folder.__path__)
    return tuple(sorted(m.name for m in modules if not m.ispkg and m.name not in SUPPORT))


def load_embedder(name: str, cache_dir: Path, threads: int = 1) -> Embedder:
    """The embedder in `<name>.py`, loaded and ready; may take seconds the first time, so call it off the event loop.

    `cache_dir` is where a model converted from the packaged weights is kept, `threads` how many cores one call may use.
    Raises UnknownEmbedder, EmbedderNotInstalled (says what to install), ExportFailed (what is wrong with cache_dir).
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    known = known_embedders()
    if name not in known:
        raise UnknownEmbedder(f"there is no embedder {name!r}; known: {', '.join(known)}")
    try:
        embedder: Embedder = importlib.import_module(f"{folder.__name__}.{name}").load(cache_dir, threads)
    except ImportError as missing:
        raise _mapped(name, missing) from missing
    return embedder


def _mapped(name: str, missing: ImportError) -> Exception:
    """A missing foreign package becomes an instruction; a missing module of our own stays the bug that it is."""
    if (missing.name or "").split(".")[0] == folder.__name__.split(".")[0]:
        return missing
    package = missing.name or str(missing)
    return EmbedderNotInstalled(
        f"embedder {name!r} cannot import {package!r} ({missing}): pip install 'fingerpost[local]'"
    )
