"""What an answer depends on beside the request."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_runtime.models.fingerprint import fingerprint
from local_runtime.models.load import LoadOptions, load_model
from tests.unit.local_runtime.tiny import save_tiny, save_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tiny")
    save_tiny("llama wide", made)
    save_tokenizer(made)
    return made


def test_the_same_weights_computed_alike_have_the_same_fingerprint_wherever_they_lie(
    folder: Path, tmp_path: Path
) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    one, other = (load_model(each, LoadOptions("float32", slots=1)).fingerprint for each in (folder, tmp_path))

    assert one == other
    assert one.startswith("fp_")


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"layers": "2"}, {"kv_policy": "window:32"}])
def test_computed_otherwise_it_is_another_one(folder: Path, options: dict[str, str]) -> None:
    plain = load_model(folder, LoadOptions("float32", slots=1)).fingerprint
    other = load_model(folder, LoadOptions(**{"dtype": "float32", "slots": 1, **options})).fingerprint  # type: ignore[arg-type]

    assert plain != other


def test_a_number_format_that_has_no_effect_is_not_told_apart(folder: Path) -> None:
    plain = load_model(folder, LoadOptions("float32", slots=1)).fingerprint

    assert load_model(folder, LoadOptions("float32", slots=1, expert_dtype="int4")).fingerprint == plain


@pytest.mark.parametrize("at", [0, 70_000, 1_500_000, -1])
def test_other_bytes_are_another_one(at: int, tmp_path: Path) -> None:
    file = tmp_path / "weights.gguf"
    content = bytearray(900_000)
    file.write_bytes(content)
    before = fingerprint(file, ())
    content[at % len(content)] ^= 1
    file.write_bytes(content)

    assert fingerprint(file, ()) != before


def test_an_empty_file_has_one(tmp_path: Path) -> None:
    (tmp_path / "a").touch()

    assert fingerprint(tmp_path / "a", ()) == fingerprint(tmp_path, ())
