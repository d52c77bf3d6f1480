"""What can go wrong with experts that are elsewhere."""

from __future__ import annotations

from local_runtime.base import GenerationError


class ExpertLost(GenerationError):
    """An expert's file is gone, cut off or changed; other experts are not affected."""


class BudgetTooSmall(GenerationError, ValueError):
    """The memory for experts can't hold those that a single token of a layer wants; the message says what can."""


class StoreFull(GenerationError):
    """No room on the disk for a model's experts."""
