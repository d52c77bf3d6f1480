"""A trained router is told a few outcomes more, of models old or new, without training it again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from routers.artifact import Artifact
from routers.find import router_class
from routers.learned import LearnedRouter
from routers.training.dataset import Dataset
from routers.training.fingerprints import ARRAY, fingerprints, learned_by

# In an artifact's account of its data: what it was told after its training, a line for each time.
TAUGHT: Final = "taught"


@dataclass(frozen=True, slots=True)
class Taught:
    """The artifact that knows more, how many labels of each model it took, and how many it had learned from before."""

    artifact: Artifact
    labels: dict[str, int]
    known: int


def teach(artifact: Artifact, labelled: Dataset) -> Taught:
    """See `LearnedRouter.with_outcomes`; labels that the training has seen are left out, since each would count twice.

    Raises `ValueError` where the kind learns nothing by labels alone, the vectors are another embedder's, nothing new
    is said, or the same labels were given before.
    """
    found = router_class(artifact.kind)
    if not issubclass(found, LearnedRouter):
        raise ValueError(f"kind '{artifact.kind}' learns nothing from outcomes")
    if artifact.embedder and artifact.embedder != labelled.embedder:
        raise ValueError(
            f"the artifact knows vectors of '{artifact.embedder}', these are of '{labelled.embedder}':"
            " set FINGERPOST_EMBEDDER to the artifact's"
        )
    before = artifact.data.get(TAUGHT, [])
    new = _new(artifact, labelled)
    if not new.observed.any():
        raise ValueError(f"data set '{labelled.name}': the artifact has learned from all of these outcomes already")
    told = new.sha256()
    if any(one["sha256"] == told for one in before):
        raise ValueError(f"data set '{labelled.name}': the artifact was told these very outcomes before")
    router = found.from_artifact(artifact)
    more = router.with_outcomes(new)
    if more is router:
        raise ValueError(f"kind '{artifact.kind}' takes up outcomes by training only: use `fingerpost train`")
    labels = Counter({card.id: int(count) for card, count in zip(new.models, new.observed.sum(axis=0), strict=True)})
    known = int(labelled.observed.sum()) - labels.total()
    return Taught(_noted(artifact, more.artifact, new, told, +labels), dict(+labels), known)


def _new(artifact: Artifact, labelled: Dataset) -> Dataset:
    """Without pairs of a model and a question that the training had."""
    asked, names = learned_by(artifact, labelled), set(artifact.data.get("models", ()))
    keep = labelled.observed.copy()
    if asked is not None:
        known = np.array([card.id in names for card in labelled.models])
        keep &= ~(asked[:, None] & known)
    return labelled.only(keep).rows(np.flatnonzero(keep.any(axis=1)))


def _noted(before: Artifact, after: Artifact, new: Dataset, told: str, labels: Counter[str]) -> Artifact:
    """With an account of what was told; questions and models of the labels count as learned from."""
    line: dict[str, Any] = {"name": new.name, "sha256": told, "outcomes": labels.total(), "models": sorted(labels)}
    data = {**before.data, TAUGHT: [*before.data.get(TAUGHT, []), line]}
    arrays = dict(after.arrays)
    if ARRAY in arrays:
        arrays[ARRAY] = np.unique(np.concatenate([arrays[ARRAY], fingerprints(new.groups)]))
    return replace(after, arrays=arrays, data=data)
