"""From a path to a model that can run: the one place where formats, weights and text come together.

Torch is imported only where it computes, or reads a folder's tensors: the native kernels do without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from local_runtime.adapters.base import Wears
from local_runtime.base import WeightsNotFound
from local_runtime.decoding.depth import parsed
from local_runtime.experts.pool import ExpertPool
from local_runtime.kernels.abi import BF16, PAGE, Q4, Q8
from local_runtime.kernels.library import Kernels, kernels, why_not
from local_runtime.models.base import LanguageModel
from local_runtime.models.expected import check_shapes
from local_runtime.models.expert_store import origin_of, packed_experts
from local_runtime.models.fingerprint import fingerprint
from local_runtime.models.gguf_file import GgufFile
from local_runtime.models.gguf_metadata import spec_from_gguf
from local_runtime.models.hf_config import spec_from_config
from local_runtime.models.metadata import Metadata
from local_runtime.models.names import GGUF, HUGGING_FACE, TensorNames
from local_runtime.models.native_experts import ExpertPacker
from local_runtime.models.native_weights import load_native, not_native
from local_runtime.models.numbers import FloatNumbers, GgufNumbers, NumberSource
from local_runtime.models.offload import Offload
from local_runtime.models.spec import ModelSpec
from local_runtime.text.chat_template import ChatTemplate
from local_runtime.text.gguf_tokenizer import tokenizer_from_gguf
from local_runtime.text.hf_tokenizer import read_json, template_from_folder, tokenizer_from_folder
from local_runtime.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from local_runtime.models.native import NativeModel
    from local_runtime.models.transformer import Transformer

DEFAULT_CONTEXT_TOKENS = 8192
KEYS_AND_VALUES_BYTES = 2**30
# What the native kernels round weights to that a file holds as floating-point numbers.
NATIVE = {"auto": Q8, "int8": Q8, "int4": Q4}
TORCH = ("torch", "float32", "bfloat16")
EXPERTS = {"bfloat16": BF16, "int8": Q8, "int4": Q4}


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """`slots` sequences at once of `context_tokens` each (None: the model's, at most 8192). Their keys and values may
    take a gibibyte, or as much as one sequence of that length needs.

    `dtype` auto: native kernels where they can compute the model, quantised weights as they are in the file, others in
    8 bits; else torch. int8 and int4: native, for weights in floating point. float32 and bfloat16: torch.
    `activation_bits`, of the native kernels: 16 leaves nothing but the weights' own rounding, 8 is faster for batches.

    `expert_bytes`: no more memory than this for a mixture's experts (None: all are loaded). They are read from
    `expert_folder`, where they are written at the first time, in `expert_dtype` (see `EXPERTS`; None: as `dtype` says).
    Where all fit they are loaded, unless they are to have another form or routes are recorded (`record_routes`).

    `layers`: those to be computed (`decoding.depth.parsed`; None: all). With fewer the answers are other ones.
    `kv_policy`: what of keys and values is kept, see kv.policies.named; all but full are computed by torch.
    `expert_top_p`: a token of a mixture takes no more experts than are as likely as this together (None: its number).
    """

    dtype: str = "auto"
    slots: int = 8
    context_tokens: int | None = None
    activation_bits: int = 16
    expert_bytes: int | None = None
    expert_folder: Path | None = None
    expert_dtype: str | None = None
    record_routes: bool = False
    layers: str | None = None
    kv_policy: str = "full"
    expert_top_p: float | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Everything that an engine needs; `template` is None where the model brings none. Of the same `fingerprint` are
    those that answer alike. `wears` is the model where it takes adapters."""

    name: str
    model: LanguageModel
    tokenizer: Tokenizer
    template: ChatTemplate | None
    context_tokens: int
    fingerprint: str = ""
    wears: Wears | None = None


def load_model(path: Path, options: LoadOptions) -> LoadedModel:
    """Read a .gguf file or a Hugging Face folder; see the error tree in local_runtime.base."""
    if options.dtype not in (*NATIVE, *TORCH):
        raise ValueError(f"dtype must be {', '.join((*NATIVE, *TORCH))}; not {options.dtype!r}")
    if options.expert_dtype is not None and options.expert_dtype not in EXPERTS:
        raise ValueError(f"expert_dtype must be {', '.join(EXPERTS)}; not {options.expert_dtype!r}")
    if options.activation_bits not in (8, 16):
        raise ValueError(f"activation_bits must be 8 or 16, not {options.activation_bits}")
    if options.layers is not None and options.kv_policy != "full":
        raise ValueError("layers and kv_policy can't be had together: leave one of them")
    if options.expert_top_p is not None and not 0 < options.expert_top_p <= 1:
        raise ValueError(f"expert_top_p must lie above 0 and be at most 1, not {options.expert_top_p}")
    if not path.exists():
        raise WeightsNotFound(f"{path}: no such file or folder")
    loaded = _load_folder(path, options) if path.is_dir() else _load_gguf(path, options)
    if options.layers is not None:
        loaded.model.layers = parsed(options.layers, len(loaded.model.layers))
    computed = type(loaded.model).__name__, list(loaded.model.layers)
    experts = None if options.expert_bytes is None else options.expert_dtype  # without a budget they are as all else is
    ways = options.dtype, options.activation_bits, experts, options.expert_top_p, options.kv_policy
    return replace(loaded, fingerprint=fingerprint(path, (*ways, *computed)))


def _load_gguf(path: Path, options: LoadOptions) -> LoadedModel:
    with GgufFile(path) as file:
        metadata = Metadata(file.metadata, path.name)
        spec = _sparing(spec_from_gguf(metadata, file.tensors), options)
        tokenizer = tokenizer_from_gguf(metadata)
        tokens = _context(spec, options)
        model: NativeModel | Transformer
        if use := _native(spec, options):
            model = _filled(use, spec, GGUF, GgufNumbers(file), options, tokens, path)
        else:
            from local_runtime.models.gguf_source import GgufSource
            from local_runtime.models.torch_model import torch_model

            with GgufSource(path) as source:
                model = torch_model(spec, GGUF, source, options.dtype, _pages(spec, options, tokens), options.kv_policy)
    template = _template(metadata.string("tokenizer.chat_template", ""), tokenizer)
    return LoadedModel(path.stem, model, tokenizer, template, tokens, wears=model)


def _load_folder(folder: Path, options: LoadOptions) -> LoadedModel:
    from local_runtime.models.safetensors_source import SafetensorsSource
    from local_runtime.models.torch_model import torch_model

    config = read_json(folder / "config.json")
    if not config.values:
        raise WeightsNotFound(f"{folder}: config.json is missing")
    spec = _sparing(spec_from_config(config), options)
    if options.layers is not None and spec.moe is not None and spec.moe.early:
        raise ValueError("layers can't be left out of a mixture whose routers read the layer before")
    tokenizer = tokenizer_from_folder(folder, config)
    tokens = _context(spec, options)
    model: NativeModel | Transformer
    with SafetensorsSource(folder) as source:
        if use := _native(spec, options):
            model = _filled(use, spec, HUGGING_FACE, FloatNumbers(source), options, tokens, folder)
        else:
            model = torch_model(
                spec, HUGGING_FACE, source, options.dtype, _pages(spec, options, tokens), options.kv_policy
            )
    template = _template(template_from_folder(folder), tokenizer)
    return LoadedModel(folder.resolve().name, model, tokenizer, template, tokens, wears=model)


def _sparing(spec: ModelSpec, options: LoadOptions) -> ModelSpec:
    if spec.moe is None or options.expert_top_p is None:
        return spec
    return replace(spec, moe=replace(spec.moe, top_p=options.expert_top_p))


def _context(spec: ModelSpec, options: LoadOptions) -> int:
    tokens = options.context_tokens or min(spec.context_tokens, DEFAULT_CONTEXT_TOKENS)
    if not 0 < tokens <= spec.context_tokens:
        raise ValueError(f"context_tokens must lie between 1 and the model's {spec.context_tokens}")
    return tokens


def _native(spec: ModelSpec, options: LoadOptions) -> Kernels | None:
    """The kernels to compute with, None: torch. ValueError where native ones were asked for and can't be had."""
    if options.kv_policy != "full" and (options.expert_bytes is not None or options.dtype in ("int8", "int4")):
        raise ValueError(f"kv_policy {options.kv_policy} is for torch: leave expert_bytes, and dtype int8 and int4")
    if options.kv_policy != "full":
        return None
    offloaded = options.expert_bytes is not None and spec.moe is not None
    if options.dtype in TORCH and not offloaded:
        return None
    found = kernels()
    fault = why_not() if found is None else not_native(spec)
    if fault is None and options.dtype not in TORCH:
        return found
    if offloaded:
        raise ValueError(f"expert_bytes needs the native kernels: {fault or f'dtype {options.dtype} is for torch'}")
    if options.dtype != "auto":
        raise ValueError(f"dtype {options.dtype} needs the native kernels: {fault}")
    return None


def _filled(
    use: Kernels,
    spec: ModelSpec,
    names: TensorNames,
    source: NumberSource,
    options: LoadOptions,
    tokens: int,
    path: Path,
) -> NativeModel:
    from local_runtime.models.native import NativeModel

    form, pages, fine = NATIVE[options.dtype], _pages(spec, options, tokens), options.activation_bits == 16
    if spec.moe is None or options.expert_bytes is None:
        return NativeModel(use, spec, load_native(use, spec, names, source, form), pages, fine=fine)
    if options.expert_folder is None:
        raise ValueError("expert_bytes needs expert_folder: where experts are read from")
    check_shapes(spec, names, source)
    expert_form = EXPERTS[options.expert_dtype] if options.expert_dtype else form
    all_bytes = ExpertPacker(use, spec, names, source, form).all_bytes
    if expert_form == form and options.expert_bytes >= all_bytes and not options.record_routes:
        return NativeModel(use, spec, load_native(use, spec, names, source, form), pages, fine=fine)
    store, shape = packed_experts(use, spec, names, source, expert_form, options.expert_folder, origin_of(path))
    pool = ExpertPool(store, options.expert_bytes, spec.moe.active)
    weights = load_native(use, spec, names, source, form, shape)
    experts = Offload(use, weights.experts, shape, spec.moe.active, pool)
    return NativeModel(use, spec, weights, pages, fine=fine, experts=experts)


def _pages(spec: ModelSpec, options: LoadOptions, tokens: int) -> int:
    """So that every sequence may fill its context, as long as that is no more than a gibibyte."""
    each = -(-tokens // PAGE)
    if options.kv_policy != "full":  # pages are numbers only: a policy has its own memory
        return options.slots * each
    page_bytes = PAGE * len(spec.layers) * spec.kept_elements * (4 if options.dtype == "float32" else 2)
    return min(options.slots * each, max(each, KEYS_AND_VALUES_BYTES // page_bytes))


def _template(source: str | None, tokenizer: Tokenizer) -> ChatTemplate | None:
    return ChatTemplate(source, tokenizer.special) if source else None
