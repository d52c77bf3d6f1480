"""How commands read data to learn from: folders embedded by the gateway's own embedder, once, with a bar meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.local import embedder_fault
from gateway.settings import Settings
from local_runtime.embedders.errors import EmbedderError
from local_runtime.embedders.find import load_embedder
from routers.training.dataset import Dataset, Embed, Floats
from routers.training.embedding_cache import cached
from routers.training.read import read_folder
from routers.training.train import note_embedder

if TYPE_CHECKING:
    from rich.progress import TaskID

# Told what is being done, the share of it that is done (below 0: nobody knows) and which part it is at.
Watch = Callable[[str, float, str], None]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads folders with one embedder; `embed` asks it only for texts that are not in the cache."""

    embed: Embed
    embedder: str

    def read(self, folder: Path) -> Dataset:
        """See `read_folder`; raises `DataError`."""
        return read_folder(folder, self.embed, self.embedder)


def reader(settings: Settings, watch: Watch) -> Reader:
    """A reader with the configured embedder and its cache in the data folder; `ValueError` where it can't be loaded."""
    fault = embedder_fault(settings.embedder)
    if fault is not None:
        raise ValueError(fault)
    try:
        embedder = load_embedder(settings.embedder, settings.data_dir / "embedders", threads=2)
    except EmbedderError as error:
        raise ValueError(str(error)) from error
    cache = cache_folder(settings)
    note_embedder(cache, embedder.id)

    done = 0

    def embed(texts: Sequence[str]) -> Floats:
        nonlocal done
        vectors = embedder.embed(texts)
        done += len(texts)
        watch("embedding", -1.0, f"{done} texts")
        return vectors

    return Reader(cached(embed, embedder.id, cache), embedder.id)


def cache_folder(settings: Settings) -> Path:
    """Where vectors are kept."""
    return settings.data_dir / "embeddings"


@contextmanager
def bars() -> Iterator[Watch]:
    """A bar for each thing that is done, on standard error; only lines that end where it is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description:<40}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        places: dict[str, TaskID] = {}

        def watch(what: str, share: float, part: str = "") -> None:
            if what not in places:
                places[what] = progress.add_task(what, total=None if share < 0 else 1.0)
            description = f"{what}: {part}" if part else what
            progress.update(places[what], completed=min(max(share, 0.0), 1.0), description=description)

        yield watch


def refuse_foreign(out: Path) -> None:
    """An artifact replaces an artifact, never something else that lies there."""
    if out.exists() and not (out / "manifest.json").is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} is there already and no artifact: name another folder")
