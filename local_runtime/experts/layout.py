"""How the experts of a model lie in files and in memory. Knows numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BLOCK: Final = 4096
Key = tuple[int, int]  # layer and expert


@dataclass(frozen=True, slots=True)
class Layout:
    """Of one model, all of whose experts are alike: `experts` in each of `layers`, each of `planes` bytes.

    A plane makes sense only with those before it: the first may hold upper bits of numbers, the second lower ones.
    """

    layers: tuple[int, ...]
    experts: int
    planes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not (self.layers and self.experts > 0 and self.planes and min(self.planes) > 0):
            raise ValueError("a layout needs layers, experts and planes of a byte or more")
        if list(self.layers) != sorted(set(self.layers)) or self.layers[0] < 0:
            raise ValueError("layers must be in order, each once")

    def stored(self, plane: int) -> int:
        """Bytes of a plane with what fills its last block."""
        return -(-self.planes[plane] // BLOCK) * BLOCK

    def place(self, plane: int) -> int:
        """Where a plane begins in an expert's file."""
        return sum(self.stored(before) for before in range(plane))

    @property
    def expert_bytes(self) -> int:
        """All planes of an expert, as stored."""
        return self.place(len(self.planes))

    @property
    def all_bytes(self) -> int:
        """All experts."""
        return self.expert_bytes * self.experts * len(self.layers)

    def __contains__(self, key: Key) -> bool:
        return key[0] in self.layers and 0 <= key[1] < self.experts
