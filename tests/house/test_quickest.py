"""`tests.quickest`: a late try is made again, a wrong one is not."""

from __future__ import annotations

import pytest

from tests.quickest import TRIES, TooSlow, quickest, within


@pytest.mark.parametrize("late", [0, 1, TRIES - 1])
async def test_late_tries_are_made_again(late: int) -> None:
    tries: list[float] = []

    @quickest
    async def measured(bound_s: float) -> None:
        tries.append(0.0)
        within(bound_s, 1.0 if len(tries) <= late else 0.1)

    await measured(0.5)

    assert len(tries) == late + 1


def test_what_is_always_late_fails() -> None:
    @quickest
    def measured() -> None:
        within(0.5, 0.5)

    with pytest.raises(TooSlow, match=r"took 0\.500 s of 0\.500 s"):
        measured()


def test_what_is_wrong_fails_at_once() -> None:
    tries: list[int] = []

    @quickest
    def measured() -> None:
        tries.append(1)
        raise AssertionError("wrong")

    with pytest.raises(AssertionError, match="wrong"):
        measured()

    assert len(tries) == 1
