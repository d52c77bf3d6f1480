"""Makes the int8 model file from the packaged weights: build exact, measure, round, prove, write. No network, no torch;
needed once per machine, so nothing here may be imported when the file exists."""

from __future__ import annotations

import os
from pathlib import Path
from secrets import token_hex

import numpy as np
from safetensors.numpy import load_file

from local_runtime.embedders.errors import ExportFailed
from local_runtime.embedders.minilm.forms import ExactForm, Int8Form
from local_runtime.embedders.minilm.graph import build
from local_runtime.embedders.minilm.package import MODEL, BertShape, MiniLMFiles, model_id
from local_runtime.embedders.minilm.probes import MEASURED, PROVEN
from local_runtime.embedders.minilm.quantise import FULL_RANGE, HALF_RANGE, Floats
from local_runtime.embedders.minilm.seal import AGREEMENT, agreement, sealed
from local_runtime.embedders.minilm.session import MiniLMSession
from local_runtime.embedders.minilm.tokens import MiniLMTokens


def export(files: MiniLMFiles, tokens: MiniLMTokens, version: str, path: Path) -> None:
    """Writes the model to `path`, whole or not at all; several processes may do so at once. Takes about two seconds.

    `version` stands for the weights and this exporter. Raises ExportFailed.
    """
    tensors = load_file(files.weights)
    write_atomically(path, rounded_model(tensors, files.shape(), tokens, version))


def rounded_model(
    tensors: dict[str, Floats],
    shape: BertShape,
    tokens: MiniLMTokens,
    version: str,
    ranges: tuple[int, ...] = (FULL_RANGE, HALF_RANGE),
) -> bytes:
    """The int8 model, serialised, at the first of `ranges` that agrees with the exact model on this processor."""
    exact, peaks = _measured(tensors, shape, tokens)
    seal = np.concatenate([exact.run([tokens.ids(text)]) for text in PROVEN])
    reached = 0.0
    for levels in ranges:
        form = Int8Form(peaks, levels)
        model: bytes = build(tensors, shape, form, [], sealed(model_id(version, levels), seal)).SerializeToString()
        reached = agreement(MiniLMSession(model, threads=1), tokens)
        if reached >= AGREEMENT:
            return model
    raise ExportFailed(f"the int8 {MODEL} disagrees with the exact one on this processor (cosine {reached:.4f})")


def write_atomically(path: Path, content: bytes) -> None:
    """The file appears complete or not at all, also when another process writes it too. Raises ExportFailed."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}-{token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ExportFailed(
            f"cannot write the embedding model ({len(content) / 1e6:.0f} MB) to {path.parent}: "
            f"{error.strerror or error}; give a folder that can be written and has room"
        ) from error


def _measured(
    tensors: dict[str, Floats], shape: BertShape, tokens: MiniLMTokens
) -> tuple[MiniLMSession, dict[str, Floats]]:
    """The exact model, and the largest magnitude that each input channel of each dense layer reached on MEASURED."""
    form = ExactForm()
    exact = MiniLMSession(build(tensors, shape, form, form.values, {}).SerializeToString(), threads=1)
    peaks: dict[str, Floats] = {}
    for text in MEASURED:
        for site, value in zip(form.sites, exact.outputs([tokens.ids(text)])[1:], strict=True):
            peaks[site] = np.maximum(peaks.get(site, 0), np.abs(value).max(axis=0))
    return exact, peaks
