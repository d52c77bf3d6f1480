"""One ONNX Runtime session around an exported model; must know nothing of tokenising or of how a model is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]

from local_runtime.embedders.minilm.quantise import Floats
from local_runtime.embedders.minilm.tokens import length_groups, padded


class MiniLMSession:
    """Token ids in, vectors out."""

    def __init__(self, model: bytes | Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # The graph is fused already; the extended level would put the slow SkipLayerNormalization back.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        # A spinning thread burns a core that the gateway needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = str(model) if isinstance(model, Path) else model
        self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the exporter wrote into the file."""
        written: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return written

    def vectors(self, rows: Sequence[Sequence[int]]) -> Floats:
        """Unit vectors, [rows, hidden], of at least one row; those of like length share a forward pass."""
        groups = list(length_groups([len(row) for row in rows]))
        found = np.concatenate([self.run([rows[place] for place in group]) for group in groups])
        vectors = np.empty_like(found)
        vectors[np.concatenate(groups)] = found
        return vectors

    def run(self, rows: Sequence[Sequence[int]]) -> Floats:
        """Unit vectors, [rows, hidden]; one forward pass, padded to the longest row."""
        return self.outputs(rows)[0]

    def outputs(self, rows: Sequence[Sequence[int]]) -> list[Floats]:
        """All that the graph gives out, `vectors` first."""
        ids, mask = padded(rows)
        values: list[Floats] = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return [np.asarray(value, np.float32) for value in values]
