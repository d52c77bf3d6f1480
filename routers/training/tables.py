"""One table of a data folder as columns, whichever of the formats it is written in; knows no meaning of a column."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from routers.training.errors import DataError, shown

_LONGEST_FIELD: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Table:
    """`columns` by name, equally long, '' or None where a cell is empty; `rows` are the numbers that messages give."""

    file: str
    columns: dict[str, list[Any]]
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def fault(self, place: int, field: str, what: str, fix: str) -> DataError:
        """What is wrong with one cell, for raising."""
        return DataError(what, file=self.file, row=self.rows[place], field=field, fix=fix)

    def require(self, *names: str) -> None:
        """Raise `DataError` unless all these columns are there."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            found = ", ".join(self.columns) or "none"
            named = f"columns {', '.join(missing)} are" if len(missing) > 1 else f"column {missing[0]} is"
            what = f"the {named} missing (there are: {found})"
            raise DataError(what, file=self.file, fix="add it, named exactly so")


def read_table(folder: Path, stem: str) -> Table:
    """The table `stem` of a folder, from .csv, .csv.gz, .jsonl, .jsonl.gz or .parquet; raises `DataError`."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", fix="name the folder that holds queries, outcomes and models")
    named = [folder / (stem + suffix) for suffix in _READERS]
    found = [file for file in named if file.exists()]
    if not found:
        names = ", ".join(file.name for file in named)
        raise DataError(f"{folder} has no {stem} table", fix=f"add one of {names}")
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise DataError(f"{folder} has both {names}", fix="keep one of them")
    return read_table_file(found[0])


def read_table_file(file: Path) -> Table:
    """The table in one file, by the end of its name; raises `DataError`."""
    read = next((read for suffix, read in _READERS.items() if file.name.endswith(suffix)), None)
    if read is None:
        raise DataError(f"{file} is no table", fix=f"bring one whose name ends in {', '.join(_READERS)}")
    try:
        return read(file)
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", file=file.name, fix="check the file") from error


def read_text(file: Path) -> str:
    """A text file, unpacked where its name ends in .gz; raises `DataError` where it is damaged or not UTF-8."""
    raw = file.read_bytes()
    if file.suffix == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError("is cut off or no gzip file", file=file.name, fix="copy or pack it again") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 (byte {error.start})"
        row = raw.count(b"\n", 0, error.start) + 1
        raise DataError(what, file=file.name, row=row, fix="save it as UTF-8") from error


def _csv_table(file: Path) -> Table:
    with _long_fields():
        reader = csv.reader(io.StringIO(read_text(file), newline=""), strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            lines = list(reader)
        except csv.Error as error:
            fix = "quote fields that hold commas, quotes or line ends, and write a quote inside twice"
            raise DataError(f"is no CSV ({error})", file=file.name, row=reader.line_num, fix=fix) from error
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError("the column appears twice", file=file.name, row=1, field=twice[0], fix="name each column once")
    rows: Sequence[int] = range(2, len(lines) + 2)
    if not all(lines):
        rows = [row for row, line in zip(rows, lines, strict=True) if line]
        lines = [line for line in lines if line]
    for row, line in zip(rows, lines, strict=True):
        if len(line) != len(header):
            what = f"has {len(line)} fields where the header has {len(header)}"
            raise DataError(what, file=file.name, row=row, fix="quote fields that hold commas or line ends")
    columns = zip(*lines, strict=True) if lines else ([] for _ in header)
    return Table(file.name, dict(zip(header, map(list, columns), strict=True)), rows)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Prompts are longer than the csv module allows by itself."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _jsonl_table(file: Path) -> Table:
    # Not splitlines: JSON strings may hold other line ends, such as U+2028, as they are.
    lines = [(row, line) for row, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]
    found = [_json_object(file, row, line) for row, line in lines]
    names = dict.fromkeys(name for one in found for name in one)
    return Table(file.name, {name: [one.get(name) for one in found] for name in names}, [row for row, _ in lines])


def _json_object(file: Path, row: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"is no JSON ({error})", file=file.name, row=row, fix="write one object on each line"
        ) from error
    if not isinstance(found, dict):
        what = f"is {shown(found)}, not an object"
        raise DataError(what, file=file.name, row=row, fix="write one object on each line")
    return found


def _parquet_table(file: Path) -> Table:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        fix = "run 'pip install pyarrow', or save the table as CSV or JSONL"
        raise DataError("Parquet needs the package pyarrow", file=file.name, fix=fix) from error
    try:
        columns: dict[str, list[Any]] = parquet.read_table(file).to_pydict()
    except arrow.ArrowException as error:
        what = f"is cut off or no Parquet file ({str(error).splitlines()[0]})"
        raise DataError(what, file=file.name, fix="write it again") from error
    count = len(next(iter(columns.values()), []))
    return Table(file.name, columns, range(1, count + 1))


_READERS: Final[dict[str, Callable[[Path], Table]]] = {
    ".csv": _csv_table,
    ".csv.gz": _csv_table,
    ".jsonl": _jsonl_table,
    ".jsonl.gz": _jsonl_table,
    ".parquet": _parquet_table,
}
