"""Many frozen records at once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from routers.decision import Forecast
from routers.many import maker

ROW = ("e", 0.5, 0.4, 0.6, 10, 20, 1.0, 0.5, 12)


def test_records_are_what_their_constructor_makes() -> None:
    made = maker(Forecast)(*([value, value] for value in ROW))

    assert made == [Forecast(*ROW), Forecast(*ROW)]
    assert type(made[0]) is Forecast and hash(made[0]) == hash(Forecast(*ROW))
    assert replace(made[0], quality=0.7).quality == 0.7


def test_records_are_frozen() -> None:
    (made,) = maker(Forecast)(*([value] for value in ROW))

    with pytest.raises(FrozenInstanceError):
        made.quality = 1.0  # type: ignore[misc] # what is tried


def test_a_column_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="1 columns are given"):
        maker(Forecast)(["e"])
