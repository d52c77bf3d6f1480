"""Loads an embedder for a test, or says why the test cannot run here; under CI a missing package is a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.errors import EmbedderNotInstalled
from local_runtime.embedders.find import load_embedder


def installed_embedder(name: str, cache_dir: Path) -> Embedder:
    """The embedder; skips the test, naming what to install, where a package is missing and CI is not set."""
    try:
        return load_embedder(name, cache_dir)
    except EmbedderNotInstalled as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
