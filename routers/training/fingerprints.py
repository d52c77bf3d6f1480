"""Which questions an artifact has learned from, as short hashes: enough to keep them out of what it is judged on."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from routers.artifact import Artifact
from routers.training.dataset import Dataset, Indices

Prints = npt.NDArray[np.uint32]

ARRAY: Final = "questions"


def fingerprints(groups: Indices) -> Prints:
    """The lower 32 bits of questions' numbers [Q]; two of a million questions share them once in four thousand."""
    return groups.astype(np.uint64).astype(np.uint32)


def with_questions(artifact: Artifact, learned: Dataset) -> dict[str, npt.NDArray[np.generic]]:
    """The artifact's arrays and which questions are learned from."""
    return {**artifact.arrays, ARRAY: np.unique(fingerprints(learned.groups))}


def learned_by(artifact: Artifact, data: Dataset) -> npt.NDArray[np.bool_] | None:
    """Which queries ask what the artifact learned from, [Q]; None where it does not say."""
    known = artifact.arrays.get(ARRAY)
    return None if known is None else np.isin(fingerprints(data.groups), known)
