"""`python -m tests.unit.local_runtime.damaging FOLDER SEED COUNT`: loads a model whose files are damaged each time.

In a process of its own with little memory to take, so that a crash or an absurd allocation is seen as what it is.
Prints a JSON object: how often which typed error came, or `computed`; all else is raised and names the attempt.
"""

from __future__ import annotations

import json
import random
import re
import resource
import shutil
import sys
import tempfile
import warnings
from array import array
from collections import Counter
from pathlib import Path

from local_runtime.base import GenerationError
from local_runtime.models.base import Segment
from local_runtime.models.load import LoadOptions, load_model

# Torch alone takes three of them; a tiny model needs none.
ADDRESSES = 6 * 2**30
HEAD = 20_000
EIGHT = (2**64 - 1, 0, 2**63 - 1, 2**62, 2**31, 2**40, 1)
FOUR = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\xc0\x7f", b"\0\0\x80\xff", b"\xff\xff\xff\x7f")
VALUES = ("0", "-1", "1e308", "99999999999999", "3", "null", '"x"', "[]", "true", "1e-320", "7")


def damaged(data: bytes, text: bool, chance: random.Random) -> bytes:
    """One to four faults in a file, most of them near its beginning, where sizes and offsets are."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not data:
            return data
        head = min(len(data), HEAD)
        at = chance.randrange(head if chance.random() < 0.9 else len(data))
        data = _another_value(data, chance) if text and chance.random() < 0.5 else _other_bytes(data, at, chance)
    return data


def _another_value(data: bytes, chance: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
    if not numbers:
        return data
    start, end = chance.choice(numbers).span()
    return (text[:start] + chance.choice(VALUES) + text[end:]).encode()


def _other_bytes(data: bytes, at: int, chance: random.Random) -> bytes:
    match chance.randrange(5):
        case 0:
            new = bytes([data[at] ^ 1 << chance.randrange(8)])
        case 1:
            new = chance.choice(EIGHT).to_bytes(8, "little")
        case 2:
            return data[:at]
        case 3:
            new = chance.choice(FOUR)
        case _:
            new = chance.randbytes(1)
    return data[:at] + new + data[at + len(new) :]


def attempt(folder: Path, chance: random.Random) -> str:
    """Load and compute three tokens; the typed error's name, or `computed`."""
    options = LoadOptions(dtype=chance.choice(("auto", "float32")), slots=1)
    try:
        model = load_model(next(folder.glob("*.gguf"), folder), options).model
        model.forward([Segment(array("i", range(2)), 0, [1, 2, 3], 1)])
    except GenerationError as error:
        return type(error).__name__
    return "computed"


def main(sound: Path, seed: int, count: int) -> Counter[str]:
    """`count` attempts, each with one file of `sound` damaged by `seed`."""
    chance, told = random.Random(seed), Counter[str]()
    for number in range(count):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(shutil.copytree(sound, Path(scratch, "model")))
            files = sorted(folder.iterdir())
            weights = [file for file in files if file.suffix in (".gguf", ".safetensors")]
            file = chance.choice(weights if chance.random() < 0.7 else files)
            file.write_bytes(damaged(file.read_bytes(), file.suffix == ".json", chance))
            try:
                told[attempt(folder, chance)] += 1
            except BaseException as error:
                error.add_note(f"attempt {number} of seed {seed}: {file.name}")
                raise
    return told


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
