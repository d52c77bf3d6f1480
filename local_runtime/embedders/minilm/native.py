"""all-MiniLM-L6-v2 on the native kernels, where they are faster than ONNX Runtime."""

from __future__ import annotations

from typing import Final

from local_runtime.base import GenerationError
from local_runtime.embedders.minilm.package import BertShape, MiniLMFiles
from local_runtime.kernels.encoder import EncoderShape, NativeEncoder
from local_runtime.kernels.library import Kernels, kernels

FASTER_FROM: Final = 3  # AVX-512 VNNI; with AVX2 alone bytes are multiplied in two steps, which is several times slower


def native(files: MiniLMFiles, shape: BertShape, threads: int, use: Kernels | None = None) -> NativeEncoder | None:
    """The model with weights and activations of 8 bits in groups of 32; None where the kernels are missing, would not
    pay or have no memory."""
    found = use or kernels()
    if found is None or (use is None and found.level < FASTER_FROM):
        return None
    from safetensors.numpy import load_file  # only where it is used: an exported model needs none

    sizes = EncoderShape(shape.layers, shape.heads, shape.hidden, shape.epsilon, shape.window, fine=False)
    try:
        return NativeEncoder(found, load_file(files.weights), sizes, threads)
    except GenerationError:
        return None
