"""all-MiniLM-L6-v2 in int8: on the native kernels, else through ONNX Runtime from our own export. It serves.

Without kernels, the first load on a machine writes the model into the cache folder (seconds); later ones read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.errors import ExportFailed
from local_runtime.embedders.minilm import package
from local_runtime.embedders.minilm.native import native
from local_runtime.embedders.minilm.quantise import FULL_RANGE
from local_runtime.embedders.minilm.tokens import MiniLMTokens

EXPORT_VERSION = 2  # raise it with any change in minilm/ that changes a vector by more than another rounding does


class Forward(Protocol):
    """The model."""

    def vectors(self, rows: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """Unit vectors [rows, hidden] of token ids, at least one row."""


class MiniLM:
    """Sentence embeddings, 384 wide; a text's vector does not depend on what else is in its batch."""

    def __init__(self, model_id: str, forward: Forward, tokens: MiniLMTokens, shape: package.BertShape) -> None:
        self.id = model_id
        self.dimensions = shape.hidden
        self.max_tokens = shape.window
        self._forward = forward
        self._tokens = tokens

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit-norm float32 vectors, shape [len(texts), 384]."""
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        return self._forward.vectors([self._tokens.ids(text) for text in texts])

    def count_tokens(self, text: str) -> int:
        """Tokens of the whole text, [CLS] and [SEP] included."""
        return self._tokens.count(text)


def load(cache_dir: Path, threads: int = 1) -> Embedder:
    """On the native kernels where they pay, else as `load_onnx`; the same id, so that what was trained on the vectors
    of one serves with those of the other. Raises as `load_onnx` does.
    """
    files = package.locate()
    shape = files.shape()
    forward = native(files, shape, threads)
    if forward is None:
        return load_onnx(cache_dir, threads)
    tokens = MiniLMTokens(files.tokenizer, shape.window)
    return MiniLM(package.model_id(_version(files), FULL_RANGE), forward, tokens, shape)


def load_onnx(cache_dir: Path, threads: int = 1) -> Embedder:
    """Reads the exported model from `cache_dir`, exporting it first where it is missing or unsound.

    Raises EmbedderNotInstalled (weights missing) and ExportFailed (cache_dir unusable, or an unproven model).
    """
    from local_runtime.embedders.minilm.exported import opened  # ONNX Runtime: only where it computes

    files = package.locate()
    shape = files.shape()
    tokens = MiniLMTokens(files.tokenizer, shape.window)
    version = _version(files)
    path = cache_dir / f"{package.MODEL}-int8-{version}.onnx"
    session = opened(path, tokens, threads)
    if session is None:
        from local_runtime.embedders.minilm.export import export  # onnx and the float weights: only when exporting

        export(files, tokens, version, path)
        session = opened(path, tokens, threads)
    if session is None:
        raise ExportFailed(f"the embedding model in {path} was just written, and cannot be read back")
    return MiniLM(session.metadata["id"], session, tokens, shape)


def _version(files: package.MiniLMFiles) -> str:
    return sha256(f"{files.fingerprint()}:{EXPORT_VERSION}".encode()).hexdigest()[:16]
