"""How a source of weights names adapters: SOURCE+lora:FOLDER, several with weights, or SOURCE+xlora:FOLDER."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KINDS: Final = re.compile(r"\+(lora|xlora):")


@dataclass(frozen=True, slots=True)
class Named:
    """Folders with how much of each is added; `gated`: one folder, whose gate says so."""

    folders: tuple[tuple[Path, float], ...]
    gated: bool = False


def parted(source: str) -> tuple[str, str]:
    """The base's source, and what names adapters, empty where none are."""
    found = _KINDS.search(source)
    return (source[: found.start()], source[found.start() :]) if found else (source, "")


def named(text: str) -> Named:
    """Of "+lora:FOLDER*WEIGHT+lora:FOLDER" (a weight of 1 need not be said) or "+xlora:FOLDER"; ValueError."""
    _, *pieces = _KINDS.split(text)
    kinds, folders = pieces[::2], pieces[1::2]
    if not kinds or not all(folders) or text[0] != "+":
        raise ValueError(f"{text!r} names no adapter: write SOURCE+lora:FOLDER")
    if kinds == ["xlora"]:
        return Named(((Path(folders[0]), 1.0),), gated=True)
    if "xlora" in kinds:
        raise ValueError(f"{text!r}: +xlora: stands alone, its folder names what it mixes")
    return Named(tuple(_weighted(folder) for folder in folders))


def _weighted(text: str) -> tuple[Path, float]:
    folder, star, number = text.rpartition("*")
    if not star:
        return Path(text), 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not folder or not math.isfinite(weight):
        raise ValueError(f"{text!r}: behind * stands how much of the adapter is added, as in FOLDER*0.5")
    return Path(folder), weight
