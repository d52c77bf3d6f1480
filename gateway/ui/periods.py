"""Which stretch of time a page shows, by the name in its address."""

from __future__ import annotations

from typing import cast, get_args

from gateway.ledger.usage import Period


def period_of(text: str) -> Period:
    """A period by its name; a day for anything else."""
    return cast(Period, text) if text in get_args(Period) else "24h"
