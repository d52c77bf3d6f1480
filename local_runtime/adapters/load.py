"""From what names adapters to what models compute."""

from __future__ import annotations

from local_runtime.adapters.base import Adapter
from local_runtime.adapters.folder import read_member
from local_runtime.adapters.named import named
from local_runtime.adapters.xlora import read_xlora
from local_runtime.models.spec import ModelSpec


def load_adapter(text: str, spec: ModelSpec) -> Adapter:
    """Read what `named` parses, for a model of this spec.

    Raises ValueError for another grammar, WeightsNotFound, UnsupportedModel, BadWeights.
    """
    wanted = named(text)
    if wanted.gated:
        return read_xlora(wanted.folders[0][0], spec)
    return Adapter(tuple(read_member(folder, spec, weight) for folder, weight in wanted.folders))
