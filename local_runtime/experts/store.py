"""Experts in files of their own, read past the page cache: what is not kept here costs no memory elsewhere.

A store is a folder with `store.json` and a file for each expert, its planes one after the other in whole blocks.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from local_runtime.base import BadWeights, WeightsNotFound
from local_runtime.experts.errors import ExpertLost, StoreFull
from local_runtime.experts.layout import BLOCK, Key, Layout

INDEX: Final = "store.json"
VERSION: Final = 1
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DIRECT: Final = getattr(os, "O_DIRECT", 0)
Buffer = bytes | bytearray | memoryview
Sums = Mapping[str, Sequence[int]]


def path_of(folder: Path, key: Key) -> Path:
    """The file of an expert."""
    return folder / f"layer-{key[0]:03d}" / f"expert-{key[1]:04d}.bin"


class StoreWriter:
    """Writes a store beside its place and moves it there when it is whole; StoreFull where the disk has no room.

    `meta` is for those who will read it. Left by an exception, nothing stays behind.
    """

    def __init__(self, folder: Path, layout: Layout, meta: Mapping[str, Any]) -> None:
        self._folder = folder
        self._part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        self._layout = layout
        self._meta = dict(meta)
        self._sums: dict[str, list[int]] = {}

    def write(self, key: Key, planes: Sequence[Buffer]) -> None:
        """The planes of an expert, in the layout's sizes."""
        if key not in self._layout or tuple(len(plane) for plane in planes) != self._layout.planes:
            raise ValueError(f"expert {key} does not fit the layout")
        path = path_of(self._part, key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for i, plane in enumerate(planes):
                    file.write(plane)
                    file.write(bytes(self._layout.stored(i) - len(plane)))
                file.flush()
                os.fsync(file.fileno())  # a name without its content would be a damaged store after a power cut
        except OSError as error:
            self._give_up(error)
        self._sums[_name(key)] = [zlib.crc32(plane) for plane in planes]

    def finish(self) -> None:
        """Move it to its place; another store that is there is replaced."""
        layout = self._layout
        if len(self._sums) != len(layout.layers) * layout.experts:
            raise ValueError("not all experts were written")
        index = {
            "version": VERSION,
            "layers": layout.layers,
            "experts": layout.experts,
            "planes": layout.planes,
            "meta": self._meta,
            "crc32": self._sums,
        }
        try:
            (self._part / INDEX).write_text(text := json.dumps(index), "utf-8")
            _sync(self._part / INDEX)
            if (self._folder / INDEX).is_file() and (self._folder / INDEX).read_text("utf-8") == text:
                return  # another process has written the same meanwhile, and may be reading it
            if self._folder.exists():
                shutil.rmtree(self._folder)
            self._part.rename(self._folder)
            _sync(self._folder.parent)
        except OSError as error:
            self._give_up(error)

    def __enter__(self) -> Self:
        shutil.rmtree(self._part, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._part, ignore_errors=True)

    def _give_up(self, error: OSError) -> None:
        shutil.rmtree(self._part, ignore_errors=True)
        if error.errno in _FULL:
            need = self._layout.all_bytes >> 20
            raise StoreFull(f"{self._folder.parent}: no room for the experts, which need {need} MiB") from error
        raise error


class ExpertStore:
    """A store that is there. Reading is safe from any thread; sums are checked the first time an expert is read."""

    def __init__(self, folder: Path, layout: Layout, meta: Mapping[str, Any], sums: Sums) -> None:
        self.folder = folder
        self.layout = layout
        self.meta = meta
        self._sums = sums
        self._checked: set[tuple[Key, int]] = set()  # with how many planes

    @classmethod
    def open(cls, folder: Path) -> ExpertStore:
        """WeightsNotFound where there is none; BadWeights names what does not fit."""
        if not (folder / INDEX).is_file():
            raise WeightsNotFound(f"{folder}: no experts there ({INDEX} is missing)")
        try:
            said = json.loads((folder / INDEX).read_text("utf-8"))
            if said["version"] != VERSION:
                raise BadWeights(
                    f"{folder.name}: version {said['version']} of {INDEX} is not known; pack the model anew"
                )
            layout = Layout(tuple(said["layers"]), said["experts"], tuple(said["planes"]))
            meta, sums = dict(said["meta"]), dict(said["crc32"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadWeights(f"{folder.name}: {INDEX} is damaged: {error}") from error
        for layer in layout.layers:
            for expert in range(layout.experts):
                _check(folder, layout, (layer, expert), sums)
        return cls(folder, layout, meta, sums)

    def read(self, key: Key, into: memoryview) -> None:
        """As many planes as there is room for, as stored, into memory that begins at a multiple of a block; ExpertLost
        names the file."""
        path, layout = path_of(self.folder, key), self.layout
        try:
            _read(path, into)
        except OSError as error:
            raise ExpertLost(f"{path}: {error.strerror or error}") from error
        planes = [plane for plane in range(len(layout.planes)) if layout.place(plane) < len(into)]
        if (key, len(planes)) not in self._checked:
            for plane in planes:
                first = layout.place(plane)
                if zlib.crc32(into[first : first + layout.planes[plane]]) != self._sums[_name(key)][plane]:
                    raise ExpertLost(f"{path}: its content has changed")
            self._checked.add((key, len(planes)))


def _sync(path: Path) -> None:
    """Have a file or a folder's names written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(folder: Path, layout: Layout, key: Key, sums: Sums) -> None:
    path = path_of(folder, key)
    size = path.stat().st_size if path.is_file() else -1
    if size != layout.expert_bytes:
        what = "is missing" if size < 0 else f"has {size} bytes, not {layout.expert_bytes}"
        raise BadWeights(f"{folder.name}: {path.relative_to(folder)} {what}; pack the model anew")
    if len(sums.get(_name(key), ())) != len(layout.planes):
        raise BadWeights(f"{folder.name}: {INDEX} has no sums for layer {key[0]}, expert {key[1]}")


def _read(path: Path, into: memoryview) -> None:
    """Past the page cache where the file system can; else what it kept is let go."""
    descriptor, direct = _opened(path)
    try:
        done = 0
        while done < len(into):
            got = os.preadv(descriptor, [into[done:]], done)
            if got <= 0 or (got % BLOCK and done + got < len(into)):
                raise OSError(errno.EIO, "the file is shorter than it was")
            done += got
        if not direct and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, len(into), os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> tuple[int, bool]:
    if _DIRECT:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | _DIRECT), True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC), False


def _name(key: Key) -> str:
    return f"{key[0]}/{key[1]}"
