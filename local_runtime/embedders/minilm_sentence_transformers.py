"""all-MiniLM-L6-v2 in float32 through sentence-transformers: the reference that minilm_onnx is measured against.
Reads the packaged folder only; no hub, no telemetry, no environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sentence_transformers import SentenceTransformer

from local_runtime.embedders.base import Embedder
from local_runtime.embedders.minilm import package
from local_runtime.embedders.minilm.tokens import MiniLMTokens, well_formed


class SentenceTransformersMiniLM:
    """Sentence embeddings, 384 wide, by torch on the CPU."""

    def __init__(self, files: package.MiniLMFiles) -> None:
        shape = files.shape()
        self.id = f"{package.MODEL}/sentence-transformers-fp32/{files.fingerprint()[:8]}"
        self.dimensions = shape.hidden
        self.max_tokens = shape.window
        self._tokens = MiniLMTokens(files.tokenizer, shape.window)
        self._model = SentenceTransformer(str(files.folder), device="cpu", local_files_only=True)

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Unit-norm float32 vectors, shape [len(texts), 384]."""
        if not texts:
            return np.empty((0, self.dimensions), np.float32)
        sentences = [well_formed(text) for text in texts]
        vectors = self._model.encode(sentences, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    def count_tokens(self, text: str) -> int:
        """Tokens of the whole text, [CLS] and [SEP] included."""
        return self._tokens.count(text)


def load(cache_dir: Path, threads: int = 1) -> Embedder:
    """From the packaged folder; `cache_dir` is not used, and neither is `threads`: torch has one count for the whole
    process, which is not an embedder's to set. Raises EmbedderNotInstalled."""
    return SentenceTransformersMiniLM(package.locate())
