"""An engine as callers of one adapter see it."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import TYPE_CHECKING

from local_runtime.base import Sampling
from local_runtime.decoding.grammar import Grammar
from local_runtime.stream import Generation

if TYPE_CHECKING:
    from local_runtime.engine import Engine


class AdaptedEngine:
    """An engine's face for callers of one adapter; the engine is shared, and closed by who has loaded it."""

    def __init__(self, engine: Engine, adapter: int, fingerprint: str) -> None:
        self.context_tokens = engine.context_tokens
        self.fingerprint = fingerprint
        self.encode_chat = engine.encode_chat
        self.encode = engine.encode
        self.grammar = engine.grammar
        self.adapted = engine.adapted
        self.stats = engine.stats
        self.wait_s = engine.wait_s
        self._engine = engine
        self._adapter = adapter

    def generate(
        self,
        prompt: Items[int],
        sampling: Sampling,
        circle: str = "",
        grammar: Grammar | None = None,
        priority: int = 0,
    ) -> Generation:
        """See Engine.generate."""
        return self._engine.generate(prompt, sampling, circle, grammar, priority, self._adapter)

    def close(self) -> None:
        """The engine goes on for others."""
