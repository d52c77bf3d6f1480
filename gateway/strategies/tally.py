"""Counting votes: who leads, and whether the lead is decisive. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb


@dataclass(frozen=True, slots=True)
class Lead:
    """The leading answer: its place among the votes, how many gave it, and how many gave the runner-up."""

    place: int
    votes: int
    runner_up: int


def lead_of(votes: Sequence[str], weights: Sequence[float]) -> Lead:
    """Who leads by count, then by summed weight, then by who came first; `ValueError` without votes."""
    if not votes:
        raise ValueError("nobody has voted")
    counts: dict[str, tuple[int, float, int]] = {}
    for place, (vote, weight) in enumerate(zip(votes, weights, strict=True)):
        count, weighed, first = counts.get(vote, (0, 0.0, place))
        counts[vote] = (count + 1, weighed + weight, first)
    order = sorted(counts.values(), key=lambda one: (-one[0], -one[1], one[2]))
    return Lead(order[0][2], order[0][0], order[1][0] if len(order) > 1 else 0)


def majority_probability(votes: int, runner_up: int) -> float:
    """How likely the leader is given more often than the runner-up in the long run, after a uniform prior.

    P(Beta(votes + 1, runner_up + 1) > 1/2), the stopping rule of Adaptive-Consistency (Aggarwal et al., 2023).
    """
    total = votes + runner_up + 1
    return float(sum(comb(total, count) for count in range(votes + 1)) / 2**total)


def is_decisive(votes: int, runner_up: int, still_to_come: int, confidence: float) -> bool:
    """Whether the lead can't be overtaken by the votes still to come, or is the majority's with this probability."""
    if votes - runner_up > still_to_come:
        return True
    return confidence < 1 and majority_probability(votes, runner_up) >= confidence


def votes_needed(votes: int, runner_up: int, still_to_come: int, confidence: float) -> int:
    """The fewest further votes for the leader that would be decisive; at least 1, at most those still to come."""
    for more in range(1, still_to_come + 1):
        if is_decisive(votes + more, runner_up, still_to_come - more, confidence):
            return more
    return still_to_come
