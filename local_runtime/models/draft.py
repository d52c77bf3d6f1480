"""From a setting to a model that writes guesses for another one to check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from local_runtime.base import UnsupportedModel
from local_runtime.bundled import located
from local_runtime.decoding.depth import parsed
from local_runtime.decoding.draft_model import DraftModel
from local_runtime.models.load import LoadedModel, LoadOptions, load_model
from local_runtime.models.native import NativeModel

LAYERS_PREFIX: Final = "layers:"


def draft_for(main: LoadedModel, source: str, options: LoadOptions) -> DraftModel:
    """A draft model for `main`, which was loaded with `options`.

    `source` is as Engine.load takes it, or layers:LIST for some of the main model's own layers, with its weights as
    they are in memory (ValueError where it has none such). UnsupportedModel where the vocabularies differ, and where
    the main model is not computed by native kernels: company may change what another one says, so guesses could.
    """
    model = main.model
    if not isinstance(model, NativeModel):
        raise UnsupportedModel(f"a draft model needs native kernels for {main.name}, which is computed by torch")
    if source.startswith(LAYERS_PREFIX):
        twin = model.twin(model.page_count)
        twin.layers = parsed(source.removeprefix(LAYERS_PREFIX), len(model.spec.layers))
        return DraftModel(twin, model.vocab_size, main.context_tokens)
    drafting = _loaded(main, located(source), options)
    return DraftModel(drafting.model, model.vocab_size, drafting.context_tokens)


def _loaded(main: LoadedModel, path: Path, options: LoadOptions) -> LoadedModel:
    loaded = load_model(
        path, replace(LoadOptions(options.dtype, options.slots), activation_bits=options.activation_bits)
    )
    if loaded.tokenizer.vocabulary() != main.tokenizer.vocabulary():
        raise UnsupportedModel(
            f"{loaded.name} can't write guesses for {main.name}: their vocabularies differ; take a draft model of the "
            f"same family, or {LAYERS_PREFIX}LIST"
        )
    return loaded
