"""`POST /v1/completions`."""

from __future__ import annotations

from typing import Any

from gateway.api.dialect_route import DialectRoute
from gateway.pipeline import Pipeline
from gateway.wire.completions_request import CompletionsDialect, CompletionsEnvelope


class CompletionsRoute(DialectRoute):
    """OpenAI's older text form, answered by chats where they will do."""

    envelope = CompletionsEnvelope

    def __init__(self, pipeline: Pipeline, **floor: Any) -> None:
        super().__init__("completions", CompletionsDialect(), pipeline, **floor)
