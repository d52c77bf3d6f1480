"""The seam of every router kind: forecasts only; `routers.choose` alone decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, Self

from policies.schema import RouterSpec
from routers.decision import Candidate, Forecast, Query


class Router(Protocol):
    """Predicts quality, output tokens and latency of each candidate for a query.

    Pure and synchronous: no I/O, no decision, the same answer for the same arguments (a kind may hold arrays
    loaded once). Kinds live one a file in `routers/kinds/`; the file's stem is the kind's name.
    """

    kind: ClassVar[str]
    needs_embedding: ClassVar[bool]

    @classmethod
    def from_spec(cls, spec: RouterSpec) -> Self:
        """Build from a policy's `[router]` table; raises `ValueError` naming the missing or wrong key."""

    def forecast(self, query: Query, candidates: Sequence[Candidate]) -> list[Forecast]:
        """One forecast per candidate, in the candidates' order; never raises for a valid query."""

    def reason(self, query: Query) -> str:
        """One sentence that says what about this query shaped the forecasts (logged and shown by explain)."""
