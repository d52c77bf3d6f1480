"""Adapters on the native kernels: beside merged weights, and bit for bit beside themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from local_runtime.adapters.base import ATTENTION, TARGETS
from local_runtime.adapters.load import load_adapter
from local_runtime.base import UnsupportedModel
from local_runtime.models.native import NativeModel
from tests.unit.local_runtime.adapters.made import IDS, Logits, merged_logits, save_adapter, save_gate
from tests.unit.local_runtime.test_native import native, needs_kernels, off, representable
from tests.unit.local_runtime.tiny import save_tiny, segment

pytestmark = needs_kernels
FAMILIES = [
    "llama wide",
    "llama wide, 3.1, biased",
    "mistral wide, window",
    "qwen2 wide",
    "gemma2 wide",
    "mixtral wide",
]
LONG = [*IDS, *IDS, *IDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with biases and two adapters of odd ranks."""
    folder = tmp_path_factory.mktemp("adapted")
    theirs = save_tiny("llama wide, 3.1, biased", folder / "base")
    save_adapter(theirs, folder / "1", 1, rank=5)
    save_adapter(theirs, folder / "2", 2, rank=11, targets=["v_proj", "down_proj"])
    return folder


def worn(folder: Path, level: int = 3) -> tuple[NativeModel, list[int | None]]:
    """The model, and the numbers of no adapter and of both."""
    ours = native(folder / "base", level=level)
    return ours, [None, *(ours.wear(load_adapter(f"+lora:{folder / name}", ours.spec)) for name in ("1", "2"))]


def alone(model: NativeModel, adapter: int | None) -> Logits:
    return model.forward([segment(0, 0, LONG, len(LONG), adapter)])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_the_merged_weights_but_for_rounding(family: str, tmp_path: Path) -> None:
    theirs = representable(save_tiny(family, tmp_path / "base"))
    theirs.save_pretrained(tmp_path / "base")
    targets = ATTENTION if family == "mixtral wide" else TARGETS
    tensors = save_adapter(theirs, tmp_path / "one", 1, rank=7, targets=targets)
    ours = native(tmp_path / "base")
    plain = merged_logits(theirs, [])

    number = ours.wear(load_adapter(f"+lora:{tmp_path / 'one'}", ours.spec))

    wanted = merged_logits(theirs, [(tensors, 1.0)])
    got = ours.forward([segment(0, 0, IDS, len(IDS), number)])
    assert off(got, wanted, 3 if family == "mixtral wide" else 0) < 0.004
    assert off(plain, wanted) > 0.1


def test_two_adapters_and_none_in_a_batch_are_as_alone_bit_for_bit(folder: Path) -> None:
    model, adapters = worn(folder)
    rows = len(LONG)

    together = model.forward([segment(i, 0, LONG, rows, adapter) for i, adapter in enumerate(adapters)])
    steps = [
        model.forward([segment(i, at, LONG[at : at + 1], 1, adapter) for i, adapter in enumerate(adapters)])
        for at in range(rows)
    ]

    wanted = [alone(worn(folder)[0], adapter) for adapter in adapters]
    assert np.array_equal(together, np.concatenate(wanted))
    for i, want in enumerate(wanted):
        assert np.array_equal(np.stack([step[i] for step in steps]), want)
    assert len({want.tobytes() for want in wanted}) == 3


def test_rows_of_the_base_do_not_know_that_adapters_are_there(folder: Path) -> None:
    want = alone(native(folder / "base"), None)
    model, adapters = worn(folder)

    mixed = model.forward([segment(2, 0, LONG, 0, adapters[1]), segment(1, 0, LONG, len(LONG))])

    assert np.array_equal(mixed, want)
    assert np.array_equal(alone(model, None), want)


def test_threads_and_instruction_sets_change_no_bit(folder: Path) -> None:
    first, numbers = worn(folder)
    want = [alone(first, number) for number in numbers[1:]]

    for level in (2, 3):
        model, adapters = worn(folder, level)
        for threads in (2, 3, 1):
            model.use_threads(threads)
            assert all(
                np.array_equal(alone(model, number), one) for number, one in zip(adapters[1:], want, strict=True)
            )


def test_more_rows_than_a_pass_takes_keep_their_adapter(folder: Path) -> None:
    model, adapters = worn(folder)
    ids = (LONG * 5)[:300]

    got = model.forward([segment(0, 0, ids, 300, adapters[1])])

    apart = [model.forward([segment(1, at, ids[at : at + 100], 100, adapters[1])]) for at in (0, 100, 200)]
    assert np.array_equal(got, np.concatenate(apart))


def test_a_gate_is_left_to_torch(folder: Path) -> None:
    model, _ = worn(folder)
    save_gate(folder / "gate", [folder / "1", folder / "2"], [(2, model.spec.hidden)])

    with pytest.raises(UnsupportedModel, match="dtype to bfloat16 or float32"):
        model.wear(load_adapter(f"+xlora:{folder / 'gate'}", model.spec))
