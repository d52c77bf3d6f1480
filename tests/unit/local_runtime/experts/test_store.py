"""Experts in files."""

from __future__ import annotations

import json
import mmap
import resource
from pathlib import Path

import pytest

from local_runtime.base import BadWeights, WeightsNotFound
from local_runtime.experts import store as store_module
from local_runtime.experts.errors import ExpertLost, StoreFull
from local_runtime.experts.layout import Layout
from local_runtime.experts.store import INDEX, ExpertStore, StoreWriter, path_of
from tests.unit.local_runtime.experts.stores import EXPERT, LAYOUT, plane_of, write_store


def room(size: int = 8192) -> memoryview:
    return memoryview(mmap.mmap(-1, size))


@pytest.mark.parametrize("direct", [True, False], ids=["past the page cache", "through it"])
def test_every_plane_comes_back(folder: Path, monkeypatch: pytest.MonkeyPatch, direct: bool) -> None:
    if not direct:
        monkeypatch.setattr(store_module, "_DIRECT", 0)
    store = ExpertStore.open(folder)

    assert (store.layout, store.meta) == (LAYOUT, {"origin": "test"})
    for key in [(1, 0), (4, 5), (2, 3)]:
        both, first = room(EXPERT), room(8192)
        store.read(key, both)
        store.read(key, first)
        assert bytes(both[:5000]) == bytes(first[:5000]) == plane_of(key, 0)
        assert bytes(both[8192:11192]) == plane_of(key, 1)


def test_every_expert_has_a_file_of_whole_blocks(folder: Path) -> None:
    assert {path.stat().st_size for path in folder.rglob("*.bin")} == {EXPERT}
    assert len(list(folder.rglob("*.bin"))) == 18


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(b"short"), "has 5 bytes, not 12288"),
    ],
)
def test_opening_names_the_file_that_does_not_fit(folder: Path, harm: object, said: str) -> None:
    harm(path_of(folder, (2, 1)))  # type: ignore[operator]

    with pytest.raises(BadWeights, match=rf"layer-002/expert-0001.bin {said}"):
        ExpertStore.open(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"layers": [2, 1]},
        {"layers": "x"},
        {"experts": 0},
        {"planes": []},
        {"planes": [5000, "many"]},
        {"crc32": {}},
        {"crc32": None},
    ],
)
def test_a_damaged_index_is_refused(folder: Path, change: dict[str, object]) -> None:
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | change))

    with pytest.raises(BadWeights):
        ExpertStore.open(folder)


def test_what_is_no_json_or_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / INDEX).write_text("{")

    with pytest.raises(BadWeights, match="damaged"):
        ExpertStore.open(folder)
    with pytest.raises(WeightsNotFound, match=INDEX):
        ExpertStore.open(tmp_path)


def test_a_file_that_changes_goes_or_shrinks_while_serving_is_lost(folder: Path) -> None:
    store = ExpertStore.open(folder)
    whole = path_of(folder, (1, 1)).read_bytes()
    path_of(folder, (1, 1)).write_bytes(whole[:100] + b"?" + whole[101:])
    path_of(folder, (1, 2)).write_bytes(whole[:4096])
    path_of(folder, (1, 3)).unlink()

    for expert, said in ((1, "changed"), (2, "shorter"), (3, "No such file")):
        with pytest.raises(ExpertLost, match=rf"expert-000{expert}.bin: .*{said}"):
            store.read((1, expert), room())
    store.read((1, 4), room())


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "x", LAYOUT, {}) as writer:
        writer.write((1, 0), [bytes(5000), bytes(3000)])
        with pytest.raises(ValueError, match="not all"):
            writer.finish()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("key", "sizes"), [((3, 0), (5000, 3000)), ((1, 6), (5000, 3000)), ((1, 0), (5000, 2999))])
def test_what_does_not_fit_the_layout_is_not_written(tmp_path: Path, key: tuple[int, int], sizes: tuple[int]) -> None:
    with StoreWriter(tmp_path / "x", LAYOUT, {}) as writer, pytest.raises(ValueError, match="does not fit"):
        writer.write(key, [bytes(size) for size in sizes])


def test_a_full_disk_says_what_is_needed(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        with pytest.raises(StoreFull, match="need 1 MiB"):
            write_store(tmp_path / "x", Layout((0,), 100, (12_000,)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list(tmp_path.iterdir()) == []


def test_a_store_is_replaced_as_a_whole(folder: Path) -> None:
    write_store(folder, Layout((0,), 1, (10,)))

    assert ExpertStore.open(folder).layout == Layout((0,), 1, (10,))
    assert len(list(folder.rglob("*.bin"))) == 1
