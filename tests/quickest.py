"""A bound on time that a busy machine does not break: one of several tries has to keep it.

Other work can make any single try late, never all of them early: a product that is too slow fails every try.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

TRIES = 8


class TooSlow(AssertionError):
    """This try took too long; another may not."""


def within(bound_s: float, took_s: float) -> None:
    """`TooSlow` where `took_s`, in seconds, is not below the bound."""
    if took_s >= bound_s:
        raise TooSlow(f"took {took_s:.3f} s of {bound_s:.3f} s")


def quickest(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test that passes when one of `TRIES` runs, with the same fixtures, is not `TooSlow`; all else fails at once."""

    @wraps(test)
    def tried(*args: Any, **given: Any) -> object:
        for _ in range(TRIES - 1):
            try:
                return test(*args, **given)
            except TooSlow:
                continue
        return test(*args, **given)

    @wraps(test)
    async def awaited(*args: Any, **given: Any) -> object:
        for _ in range(TRIES - 1):
            try:
                return await test(*args, **given)
            except TooSlow:
                continue
        return await test(*args, **given)

    return awaited if inspect.iscoroutinefunction(test) else tried
