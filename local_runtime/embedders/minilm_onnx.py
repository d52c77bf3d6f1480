"""all-MiniLM-L6-v2 in int8 through ONNX Runtime, from our own export. The embedder that serves.

The first load on a machine writes the model into the cache folder (seconds); later ones read it and import no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.errors import ExportFailed
from local_runtime.embedders.minilm import package
from local_runtime.embedders.minilm.seal import AGREEMENT, agreement
from local_runtime.embedders.minilm.session import MiniLMSession
from local_runtime.embedders.minilm.tokens import MiniLMTokens, length_groups

EXPORT_VERSION = 2  # raise it with any change in minilm/ that changes a vector


class OnnxMiniLM:
    """Sentence embeddings, 384 wide; a text's vector does not depend on what else is in its batch."""

    def __init__(self, session: MiniLMSession, tokens: MiniLMTokens, shape: package.BertShape) -> None:
        self.id = session.metadata["id"]
        self.dimensions = shape.hidden
        self.max_tokens = shape.window
        self._session = session
        self._tokens = tokens

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit-norm float32 vectors, shape [len(texts), 384]; texts of like length share a forward pass."""
        rows = [self._tokens.ids(text) for text in texts]
        vectors = np.empty((len(rows), self.dimensions), np.float32)
        for group in length_groups([len(row) for row in rows]):
            vectors[group] = self._session.run([rows[place] for place in group])
        return vectors

    def count_tokens(self, text: str) -> int:
        """Tokens of the whole text, [CLS] and [SEP] included."""
        return self._tokens.count(text)


def load(cache_dir: Path, threads: int = 1) -> Embedder:
    """Reads the exported model from `cache_dir`, exporting it first where it is missing or unsound.

    Raises EmbedderNotInstalled (weights missing) and ExportFailed (cache_dir unusable, or an unproven model).
    """
    files = package.locate()
    shape = files.shape()
    tokens = MiniLMTokens(files.tokenizer, shape.window)
    version = sha256(f"{files.fingerprint()}:{EXPORT_VERSION}".encode()).hexdigest()[:16]
    path = cache_dir / f"{package.MODEL}-int8-{version}.onnx"
    session = _opened(path, tokens, threads)
    if session is None:
        from local_runtime.embedders.minilm.export import export  # onnx and the float weights: only when exporting

        export(files, tokens, version, path)
        session = _opened(path, tokens, threads)
    if session is None:
        raise ExportFailed(f"the embedding model in {path} was just written, and cannot be read back")
    return OnnxMiniLM(session, tokens, shape)


def _opened(path: Path, tokens: MiniLMTokens, threads: int) -> MiniLMSession | None:
    """The session over a file, or None if there is none, or one that is damaged or made for another processor."""
    if not path.is_file():
        return None
    try:
        session = MiniLMSession(path, threads)
        return session if agreement(session, tokens) >= AGREEMENT else None
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no root of their own; None is answered by a new export
        return None
