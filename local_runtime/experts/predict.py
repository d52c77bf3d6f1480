"""Which experts coming layers will want. Every predictor learns from the run how much its own ranking is worth."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Odds = npt.NDArray[np.float64]
Chosen = npt.NDArray[np.int32]

_FORGET: Final = 0.998


class Predictor(Protocol):
    """Of one model; layers are counted as rows of the layout."""

    def odds(self, row: int, ahead: int) -> Odds | None:
        """How likely each expert of layer `row` is wanted at its next visit, as it looks `ahead` layers before it."""

    def saw(self, row: int, used: npt.NDArray[np.intp]) -> None:
        """What a layer wanted, in the end."""

    def told(self, row: int, ahead: int, probabilities: npt.NDArray[np.float32]) -> None:
        """What the router of a coming layer says already: [rows, experts]."""


class Ranked:
    """How often what stood at a rank was wanted, for each number of layers ahead: odds that correct themselves."""

    def __init__(self, experts: int, ahead: int) -> None:
        # Before anything was seen: half of those at the front.
        self._seen = np.full((ahead + 1, experts), 2.0)
        self._right = np.linspace(1.2, 0.0, experts)[None, :].repeat(ahead + 1, axis=0)
        self.error = np.full(ahead + 1, 0.1)  # mean square, of late

    def odds(self, scores: Odds, ahead: int) -> Odds:
        """From scores of any kind, larger ones being likelier."""
        found = np.empty(len(scores))
        found[(-scores).argsort(kind="stable")] = self._right[ahead] / self._seen[ahead]
        return found

    def learn(self, scores: Odds, ahead: int, wanted: npt.NDArray[np.bool_]) -> None:
        """What came of such scores."""
        self.error[ahead] += 0.02 * (float(np.mean((self.odds(scores, ahead) - wanted) ** 2)) - self.error[ahead])
        self._seen[ahead] = self._seen[ahead] * _FORGET + 1.0
        self._right[ahead] = self._right[ahead] * _FORGET + wanted[(-scores).argsort(kind="stable")]


class _Scored:
    """Keeps what was said of coming layers until they have come."""

    def __init__(self, experts: int, ahead: int) -> None:
        self._experts = experts
        self.ranked = Ranked(experts, ahead)
        self._said: dict[tuple[int, int], Odds] = {}

    def say(self, row: int, ahead: int, scores: Odds) -> Odds:
        """The odds of scores, which are remembered."""
        self._said[row, ahead] = scores
        return self.ranked.odds(scores, ahead)

    def learn(self, row: int, used: npt.NDArray[np.intp]) -> None:
        """A layer has come."""
        wanted = np.zeros(self._experts, dtype=bool)
        wanted[used] = True
        for place in [place for place in self._said if place[0] == row]:
            self.ranked.learn(self._said.pop(place), place[1], wanted)


class NextGate:
    """A coming layer's own router, asked early (gate look-ahead): the more rows want an expert, the likelier."""

    def __init__(self, experts: int, ahead: int) -> None:
        self._scored = _Scored(experts, ahead)
        self._odds: dict[tuple[int, int], Odds] = {}

    def told(self, row: int, ahead: int, probabilities: npt.NDArray[np.float32]) -> None:
        """See Predictor."""
        missed = np.prod(1.0 - probabilities.astype(np.float64).clip(0.0, 1.0 - 1e-9), axis=0)
        self._odds[row, ahead] = self._scored.say(row, ahead, 1.0 - missed)

    def odds(self, row: int, ahead: int) -> Odds | None:
        """See Predictor."""
        return self._odds.get((row, ahead))

    def error(self, ahead: int) -> float:
        """Mean square, of late."""
        return float(self._scored.ranked.error[ahead])

    def saw(self, row: int, used: npt.NDArray[np.intp]) -> None:
        """See Predictor."""
        self._scored.learn(row, used)
        for place in [place for place in self._odds if place[0] == row]:
            del self._odds[place]


class Affinity:
    """Which experts of a layer follow which of the one before it (ExFlow, arXiv:2401.08383), counted as they come."""

    def __init__(self, layers: int, experts: int, ahead: int) -> None:
        self._follows = np.full((layers, ahead + 1, experts, experts), 1e-3)
        self._scored = _Scored(experts, ahead)
        self._ahead = ahead
        self._last: dict[int, npt.NDArray[np.intp]] = {}

    def told(self, row: int, ahead: int, probabilities: npt.NDArray[np.float32]) -> None:
        """See Predictor; it looks at routes alone."""

    def odds(self, row: int, ahead: int) -> Odds | None:
        """See Predictor."""
        before = self._last.get(row - ahead)
        if before is None:
            return None
        counts = self._follows[row, ahead, before]
        return self._scored.say(row, ahead, (counts / counts.sum(axis=1, keepdims=True)).sum(axis=0))

    def error(self, ahead: int) -> float:
        """Mean square, of late."""
        return float(self._scored.ranked.error[ahead])

    def saw(self, row: int, used: npt.NDArray[np.intp]) -> None:
        """See Predictor."""
        if row == 0:
            self._last.clear()
        self._scored.learn(row, used)
        for ahead in range(1, self._ahead + 1):
            before = self._last.get(row - ahead)
            if before is not None:
                self._follows[row, ahead][np.ix_(before, used)] += 1.0
        self._last[row] = used


class Best:
    """Whichever of the two has been nearer to what came, for each number of layers ahead."""

    def __init__(self, layers: int, experts: int, ahead: int) -> None:
        self._gate = NextGate(experts, ahead)
        self._affinity = Affinity(layers, experts, ahead)

    def told(self, row: int, ahead: int, probabilities: npt.NDArray[np.float32]) -> None:
        """See Predictor."""
        self._gate.told(row, ahead, probabilities)

    def odds(self, row: int, ahead: int) -> Odds | None:
        """See Predictor."""
        gate, affinity = self._gate.odds(row, ahead), self._affinity.odds(row, ahead)
        if gate is None or affinity is None:
            return affinity if gate is None else gate
        return gate if self._gate.error(ahead) <= self._affinity.error(ahead) else affinity

    def saw(self, row: int, used: npt.NDArray[np.intp]) -> None:
        """See Predictor."""
        self._gate.saw(row, used)
        self._affinity.saw(row, used)
