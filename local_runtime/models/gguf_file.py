"""The GGUF container (versions 2 and 3, little endian): metadata values and where tensors lie. Interprets neither.

Every length is checked against the file before memory is touched. Source: the GGUF specification of the ggml project.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from local_runtime.base import BadWeights, UnsupportedModel

MAX_DIMENSIONS = 4
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Where a tensor lies: type, shape in torch's order (last index fastest), byte range in the file."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    size: int


class _Cursor:
    """Reads forward through the file; running past the end is BadWeights."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def take(self, layout: str) -> Any:
        size = struct.calcsize(layout)
        self._need(size)
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += size
        return value

    def string(self) -> str:
        return self._strings(1)[0]

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        return self.take("<" + self._layout(kind))

    def _array(self) -> list[Any]:
        kind, count = self.take("<I"), self.take("<Q")
        if kind == _ARRAY:
            raise BadWeights("GGUF: arrays of arrays are not allowed")
        self._need(count * (8 if kind == _STRING else struct.calcsize("<" + self._layout(kind))))
        if kind == _STRING:
            return self._strings(count)
        layout = f"<{count}{self._layout(kind)}"
        values = list(struct.unpack_from(layout, self.data, self.at))
        self.at += struct.calcsize(layout)
        return values

    def _strings(self, count: int) -> list[str]:
        """Hot: vocabularies hold a hundred thousand strings, hence locals instead of `take`."""
        data, at, length_at = self.data, self.at, struct.Struct("<Q").unpack_from
        last, strings = len(data), []
        try:
            for _ in range(count):
                start = at + 8
                at = start + length_at(data, at)[0]
                if at > last:
                    raise BadWeights(f"GGUF: truncated: a string ends at byte {at} of {last}")
                strings.append(str(data[start:at], "utf-8"))
        except struct.error as error:
            raise BadWeights(f"GGUF: truncated at byte {at} of {last}") from error
        except UnicodeDecodeError as error:
            raise BadWeights(f"GGUF: the string that ends at byte {at} is not UTF-8") from error
        self.at = at
        return strings

    def _layout(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise BadWeights(f"GGUF: unknown value type {kind} at byte {self.at}")
        return _SCALARS[kind]

    def _need(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise BadWeights(f"GGUF: truncated: {size} bytes wanted at byte {self.at} of {len(self.data)}")


class GgufFile:
    """An open, validated GGUF file; `metadata` holds plain Python values."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                self._size = len(data)
                self._parse(_Cursor(data))
        except (BadWeights, UnsupportedModel):
            self._file.close()
            raise
        except ValueError as error:
            self._file.close()
            raise BadWeights(f"{path.name}: the file is empty") from error

    def bytes_of(self, name: str) -> bytes:
        """The tensor's raw bytes, read anew: mapped ones count as memory, and end the process if the file shrinks."""
        tensor = self.tensors[name]
        self._file.seek(tensor.start)
        data = self._file.read(tensor.size)
        if len(data) < tensor.size:
            raise BadWeights(f"{self.path.name}: truncated while it was read: tensor {name!r}")
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _parse(self, cursor: _Cursor) -> None:
        if cursor.take("<I") != 0x46554747:
            raise BadWeights(f"{self.path.name}: not a GGUF file")
        if (version := cursor.take("<I")) not in (2, 3):
            raise UnsupportedModel(f"{self.path.name}: GGUF version {version} is not supported")
        tensor_count, value_count = cursor.take("<Q"), cursor.take("<Q")
        if (tensor_count + value_count) * 13 > self._size:
            raise BadWeights(f"{self.path.name}: {tensor_count} tensors and {value_count} values do not fit the file")
        self.metadata = self._read_metadata(cursor, value_count)
        entries = self._read_entries(cursor, tensor_count)
        base = self._aligned(cursor.at)
        self.tensors = {name: self._place(name, base, *entry) for name, entry in entries.items()}

    def _read_metadata(self, cursor: _Cursor, count: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for _ in range(count):
            key = cursor.string()
            if key in values:
                raise BadWeights(f"{self.path.name}: the key {key[:80]!r} comes twice")
            values[key] = cursor.value(cursor.take("<I"))
        return values

    def _read_entries(self, cursor: _Cursor, count: int) -> dict[str, tuple[int, tuple[int, ...], int]]:
        entries: dict[str, tuple[int, tuple[int, ...], int]] = {}
        for _ in range(count):
            name = cursor.string()
            dimensions = cursor.take("<I")
            if name in entries or not 0 < dimensions <= MAX_DIMENSIONS:
                raise BadWeights(f"{self.path.name}: tensor {name[:80]!r} comes twice or has {dimensions} dimensions")
            shape = tuple(cursor.take("<Q") for _ in range(dimensions))
            entries[name] = (cursor.take("<I"), shape[::-1], cursor.take("<Q"))
        return entries

    def _aligned(self, offset: int) -> int:
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            raise BadWeights(f"{self.path.name}: alignment {alignment!r} is not a power of two")
        return -(-offset // alignment) * alignment

    def _place(self, name: str, base: int, kind: int, shape: tuple[int, ...], offset: int) -> GgufTensor:
        try:
            quantisation = GGMLQuantizationType(kind)
        except ValueError as error:
            raise UnsupportedModel(f"{self.path.name}: tensor {name!r} has the unknown type {kind}") from error
        block, block_bytes = GGML_QUANT_SIZES[quantisation]
        elements = math.prod(shape)
        if elements == 0 or shape[-1] % block:
            raise BadWeights(f"{self.path.name}: tensor {name!r} of shape {shape} is not whole blocks of {block}")
        size = elements // block * block_bytes
        if base + offset + size > self._size:
            raise BadWeights(f"{self.path.name}: truncated: tensor {name!r} ends at byte {base + offset + size}")
        return GgufTensor(quantisation, shape, base + offset, size)
