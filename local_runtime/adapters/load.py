"""From what names adapters to what models compute."""

from __future__ import annotations

import hashlib
from dataclasses import replace

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


def fingerprint_with(base: str, adapter: Adapter) -> str:
    """Alike where the base's fingerprint and all of the adapter's numbers are."""
    made = hashlib.sha256(base.encode())
    for member in adapter.members:
        made.update(repr(member.weight).encode())
        for place, pair in member.pairs.items():
            made.update(repr((place, pair.down.shape)).encode() + pair.down.tobytes() + pair.up.tobytes())
    if adapter.gate is not None:
        made.update(repr(replace(adapter.gate, layers=())).encode())
        for weight, bias in adapter.gate.layers:
            made.update(weight.tobytes() + bias.tobytes())
    return f"fp_{made.hexdigest()[:12]}"
