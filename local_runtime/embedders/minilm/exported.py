"""Opens an exported model where it is sound; must know nothing of how one is made."""

from __future__ import annotations

from pathlib import Path

from local_runtime.embedders.minilm.seal import AGREEMENT, agreement
from local_runtime.embedders.minilm.session import MiniLMSession
from local_runtime.embedders.minilm.tokens import MiniLMTokens


def opened(path: Path, tokens: MiniLMTokens, threads: int) -> MiniLMSession | None:
    """The session over a file, or None if there is none, or one that is damaged or made for another processor."""
    if not path.is_file():
        return None
    try:
        session = MiniLMSession(path, threads)
        return session if agreement(session, tokens) >= AGREEMENT else None
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no root of their own; None is answered by a new export
        return None
