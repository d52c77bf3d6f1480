"""Finds the compiled kernels and what of them this processor can run. Calls release the interpreter's lock."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from local_runtime.base import GenerationError
from local_runtime.kernels.abi import Matrix, declare

NAMES: Final = MappingProxyType({2: "AVX2", 3: "AVX-512 VNNI"})
_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Kernels:
    """The library, and an instruction set that this processor has."""

    library: Any
    level: int

    @property
    def name(self) -> str:
        """The instruction set."""
        return NAMES[self.level]


class Arena:
    """Zeroed memory in huge pages where the system gives them; GenerationError where there is none."""

    def __init__(self, kernels: Kernels, size: int) -> None:
        self._free = kernels.library.fp_arena_free
        self._handle = kernels.library.fp_arena(size)
        if not self._handle:
            raise GenerationError(f"no memory for {size >> 20} MiB of weights")
        self.address: int = kernels.library.fp_arena_data(self._handle)

    def close(self) -> None:
        """Give it back; nothing may use it any more."""
        handle, self._handle = self._handle, None
        if handle:
            self._free(handle)

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def kernels(level: int = 3) -> Kernels | None:
    """The best that is there up to `level` (2: AVX2, 3: AVX-512 with VNNI); None: not built, or too old a processor."""
    for suffix in EXTENSION_SUFFIXES:
        path = _FOLDER / f"_native{suffix}"
        if path.is_file():
            return _opened(path, level)
    return None


def why_not() -> str:
    """Why `kernels` finds nothing."""
    if not any((_FOLDER / f"_native{suffix}").is_file() for suffix in EXTENSION_SUFFIXES):
        return "they were not built: no C++ compiler was there when the package was installed"
    return "this processor has no AVX2, or they were built for another one"


def _opened(path: Path, level: int) -> Kernels | None:
    try:
        library = declare(ctypes.CDLL(str(path)))
    except (OSError, AttributeError):
        return None
    chosen = library.fp_level(level)
    return Kernels(library, chosen) if chosen else None


def multiply(use: Kernels, matrix: Matrix, x: npt.NDArray[np.float32], fine: bool) -> npt.NDArray[np.float32]:
    """`x` [rows, cols] times the matrix, transposed: float32 [rows, matrix.rows]; `x` is rounded to 16 or 8 bits."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    out = np.empty((len(x), matrix.rows), dtype=np.float32)
    use.library.fp_multiply(use.level, ctypes.byref(matrix), x.ctypes.data, len(x), fine, out.ctypes.data)
    return out
