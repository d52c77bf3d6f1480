"""Who is measured: how each contestant's worker is started. Starting and asking is `workers`' business."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.runtime import built


@dataclass(frozen=True, slots=True)
class Command:
    """A worker's command line and what its environment needs beside the usual."""

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contestant:
    """A name and its settings by label, of which the fastest is measured; `scored`: it gives logits for perplexity."""

    name: str
    variants: Mapping[str, Command]
    scored: bool = True


@dataclass(frozen=True, slots=True)
class Setup:
    """The weights, and what `LoadOptions` of our runtime gets."""

    weights: Path
    dtype: str = "auto"
    backend: str = "auto"


def ours(setup: Setup) -> Contestant:
    """Our runtime through `LanguageModel`."""
    return Contestant("ours", {setup.dtype: our_command(setup, setup.dtype)})


def ours_engine(setup: Setup) -> Contestant:
    """Our whole engine."""
    words = _python("model_engine", str(setup.weights), "--dtype", setup.dtype, "--backend", setup.backend)
    return Contestant("ours_engine", {setup.dtype: Command(words)}, scored=False)


def ours_torch(setup: Setup) -> Contestant:
    """Our runtime computed by torch: what is left where the native kernels can't be had."""
    return Contestant("ours_torch", {dtype: our_command(setup, dtype) for dtype in ("torch", "bfloat16")})


def llama_cpp_same_file(setup: Setup) -> Contestant:
    """llama.cpp on the file as it is."""
    return Contestant("llama_cpp_same_file", _llama(setup.weights))


def llama_cpp_best(setup: Setup) -> Contestant:
    """llama.cpp on the number format that it is fastest with."""
    return Contestant("llama_cpp_best", _llama(built.requantised(setup.weights)))


def transformers(setup: Setup) -> Contestant:
    """transformers in eager mode."""
    folder = str(built.transformers_folder(setup.weights))
    kinds = ("bfloat16", "float32")
    variants = {dtype: Command(_python("model_transformers", folder, "--dtype", dtype)) for dtype in kinds}
    return Contestant("transformers", variants)


RECIPES: dict[str, Callable[[Setup], Contestant]] = {
    recipe.__name__: recipe
    for recipe in (ours, ours_engine, ours_torch, llama_cpp_same_file, llama_cpp_best, transformers)
}


def our_command(setup: Setup, dtype: str, slots: int = 1) -> Command:
    """Our worker with a number format of the weights and room for so many sequences."""
    backend = setup.backend if dtype == setup.dtype else "auto"
    wanted = ("--dtype", dtype, "--backend", backend, "--slots", str(slots))
    return Command(_python("model_ours", str(setup.weights), *wanted))


def arena_command(size: int) -> Command:
    """The memory reader on so many bytes."""
    return Command(_python("model_arena", str(built.reader()), str(size)))


def _llama(file: Path) -> dict[str, Command]:
    found = built.llama_cpp()
    words = (str(found.python), "-m", "benchmarks.runtime.model_llama", str(file), "--flash")
    return {f"flash attention {state}": Command((*words, state), found.environment) for state in ("off", "on")}


def _python(module: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"benchmarks.runtime.{module}", *words)
