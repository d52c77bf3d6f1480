"""What a bandit has learned, as sums: they merge by addition, fade with time, and forget the order of their making.

Knows no router and no store. One `Tally` belongs to one model; contexts are vectors of D numbers, the first of them 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

_HEAD = 2


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums over feedbacks as they weigh at the Unix time `at`: of 1, context x context, context x residual.

    A feedback on a decision taken at time t weighs 2 ** -((at - t) / half-life). A residual is the score less what the
    prior router had foretold. Sums are what the times of decisions make them, whenever and in whichever order the
    feedbacks arrive.
    """

    at: float
    count: float
    gram: Doubles
    moment: Doubles

    @property
    def dimensions(self) -> int:
        """D."""
        return len(self.moment)


State = Mapping[str, Tally]


def empty(dimensions: int, at: float = 0.0) -> Tally:
    """Nothing learned yet."""
    return Tally(at, 0.0, np.zeros((dimensions, dimensions)), np.zeros(dimensions))


def lesson(context: Doubles, residual: float, at: float, weight: float = 1.0) -> Tally:
    """What one feedback teaches; `at` is when its decision was taken. A weight of -1 takes a lesson back."""
    return Tally(at, weight, weight * np.outer(context, context), weight * residual * context)


def faded(tally: Tally, at: float, half_life_s: float) -> Tally:
    """The same sums as they weigh at another time."""
    if at == tally.at:
        return tally
    left = 2.0 ** -((at - tally.at) / half_life_s) if math.isfinite(half_life_s) else 1.0
    return Tally(at, left * tally.count, left * tally.gram, left * tally.moment)


def merged(tallies: Iterable[Tally], half_life_s: float) -> Tally:
    """The sum of one or more, at the latest of their times."""
    many = list(tallies)
    at = max(one.at for one in many)
    level = [faded(one, at, half_life_s) for one in many]
    return Tally(
        at,
        sum(one.count for one in level),
        np.sum([one.gram for one in level], axis=0),
        np.sum([one.moment for one in level], axis=0),
    )


def added(state: State, more: State, half_life_s: float) -> dict[str, Tally]:
    """Two states in one, model by model."""
    return {
        model: merged([one[model] for one in (state, more) if model in one], half_life_s) for model in {**state, **more}
    }


def packed(tally: Tally) -> bytes:
    """Little-endian doubles: time, count, the gram's lower triangle row by row, the moment."""
    rows, columns = np.tril_indices(tally.dimensions)
    numbers = np.concatenate(([tally.at, tally.count], tally.gram[rows, columns], tally.moment))
    return numbers.astype("<f8").tobytes()


def unpacked(raw: bytes) -> Tally:
    """The tally of `packed`; `ValueError` for anything else."""
    numbers = np.frombuffer(raw, dtype="<f8").astype(np.float64) if len(raw) % 8 == 0 else np.empty(0)
    dimensions = round((math.sqrt(9 + 8 * max(len(numbers) - _HEAD, 0)) - 3) / 2)
    triangle = dimensions * (dimensions + 1) // 2
    if dimensions < 1 or len(numbers) != _HEAD + triangle + dimensions or not np.isfinite(numbers).all():
        raise ValueError(f"{len(raw)} bytes are no tally of a bandit")
    gram = np.zeros((dimensions, dimensions))
    gram[np.tril_indices(dimensions)] = numbers[_HEAD : _HEAD + triangle]
    gram = gram + np.tril(gram, -1).T
    return Tally(float(numbers[0]), float(numbers[1]), gram, numbers[_HEAD + triangle :])
