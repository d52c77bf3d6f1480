"""A confidence sequence for the mean of labels in 0..1: bounds that hold at all times at once, however often one looks.

The method is betting (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024,
with the capital of their grid Kelly process): against each mean m one bets on every label, and the capital of all bets,
which a true mean lets grow only by chance, is above 1/alpha at any time with probability alpha at most (Ville). The
bets are constant and share the capital, so that it depends on how often each label came and not on their order: labels
of several processes are simply added up. For labels 0 and 1 it is Robbins' mixture likelihood ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

# Shares of the capital that one wrong answer in 1/m may lose; log-spaced, since rates may differ a little or greatly.
_BETS: Final = np.geomspace(0.002, 0.9, 24)
_STEPS: Final = 50

Labels = Mapping[float, int]


def log_capital(labels: Labels, mean: float) -> float:
    """The logarithm of what betting that the mean is larger than `mean` has made of 1. `labels` counts by value.

    Each bet's stake is a share of 1/mean, so that the capital falls as `mean` grows: what speaks against one mean
    speaks against all smaller ones.
    """
    grown = np.zeros_like(_BETS)
    for value, count in labels.items():
        grown += count * np.log1p(_BETS * (value / mean - 1.0))
    most = float(np.max(grown))
    return most + math.log(float(np.mean(np.exp(grown - most))))


def lower_bound(labels: Labels, alpha: float) -> float:
    """The largest mean that is refuted: at no time is the true one below it, but with probability `alpha`; labels may
    depend on what was before as long as none is expected to be above the mean."""
    if not any(value and count for value, count in labels.items()):
        return 0.0
    wanted, low, high = -math.log(alpha), 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if log_capital(labels, middle) >= wanted else (low, middle)
    return low


def upper_bound(labels: Labels, alpha: float) -> float:
    """The smallest mean that is refuted, likewise."""
    return 1.0 - lower_bound({1.0 - value: count for value, count in labels.items()}, alpha)
