"""What can go wrong with an embedder; one tree, so that a caller at the edge maps it once. Knows no model.

EmbedderError
├── UnknownEmbedder        no file of that name
├── EmbedderNotInstalled   a package or its weights are missing; the message says what to install
├── ExportFailed           the exported model cannot be made or written
├── EmbedderUnavailable    the model could not be loaded; tried again after `retry_in_s`
├── EmbedderBusy           the queue is full; try again later
├── EmbedderFailed         the model ran and its answer is unusable
└── EmbedderClosed         asked after, or while, closing
"""

from __future__ import annotations


class EmbedderError(Exception):
    """The root of this tree."""


class UnknownEmbedder(EmbedderError):
    """No embedder has that name."""


class EmbedderNotInstalled(EmbedderError):
    """A package that the embedder needs is missing."""


class ExportFailed(EmbedderError):
    """The exported model could not be made, proven or written."""


class EmbedderUnavailable(EmbedderError):
    """The model could not be loaded; `reason` says why, `retry_in_s` when the next attempt is due."""

    def __init__(self, reason: str, retry_in_s: float) -> None:
        super().__init__(f"the embedder could not be loaded: {reason} (next attempt in {retry_in_s:.0f} s)")
        self.reason = reason
        self.retry_in_s = retry_in_s


class EmbedderBusy(EmbedderError):
    """More texts are waiting than the queue holds."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the embedder's queue is full ({limit} texts)")
        self.limit = limit


class EmbedderFailed(EmbedderError):
    """The model raised, or answered with a wrong shape or with numbers that are not finite."""


class EmbedderClosed(EmbedderError):
    """The worker is closed."""

    def __init__(self) -> None:
        super().__init__("the embedder is closed")
