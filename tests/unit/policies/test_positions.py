"""Lines of key paths: against a writer that knows the truth, and on texts written by hand."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.positions import Path, key_lines, line_of
from tests.unit.policies.toml_writer import DOCUMENTS, Writer

BY_HAND = """\
top = 1
"quoted.key" = { inner = 2, other = [ 3, 4 ] }
a.b.c = 'dotted'

[table] # comment
text = \"\"\"
not = "a key"
[nor a table]\"\"\"
list = [
  "x", # "]"
  { deep = true },
]

[[row]]
id = "first"
[row.sub]
key = 1
[[row]]
id = "second"
[[row.inner]]
n = 1
[[row.inner]]
n = 2
"""


def leaves(value: Any, path: Path = ()) -> set[Path]:
    """Every key path of a parsed document, tables and list elements included."""
    found = {path} if path else set()
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in children:
        found |= leaves(child, (*path, step))
    return found


@settings(deadline=None)
@given(DOCUMENTS, st.data())
def test_every_key_of_a_random_document_is_found_on_its_line(document: Any, data: st.DataObject) -> None:
    writer = Writer(data.draw)
    expected = writer.document(*document)
    assert tomllib.loads(writer.text) == expected
    assert key_lines(writer.text) == writer.lines
    assert key_lines(writer.text.replace("\n", "\r\n")) == writer.lines


def test_keys_in_tables_rows_arrays_and_strings_are_told_apart() -> None:
    lines = key_lines(BY_HAND)
    assert leaves(tomllib.loads(BY_HAND)) == set(lines)
    wanted: dict[Path, int] = {
        ("top",): 1,
        ("quoted.key", "other", 1): 2,
        ("a", "b"): 3,
        ("table",): 5,
        ("table", "text"): 6,
        ("table", "list", 0): 10,
        ("table", "list", 1, "deep"): 11,
        ("row", 0, "sub", "key"): 17,
        ("row", 1): 18,
        ("row", 1, "inner", 1, "n"): 23,
    }
    assert {path: lines[path] for path in wanted} == wanted


def test_a_path_that_is_not_there_gets_its_nearest_ancestors_line() -> None:
    lines = key_lines("a = 1\n[[row]]\nid = 'x'\n")
    assert line_of(lines, ("row", 0, "missing", "deeper")) == 2
    assert line_of(lines, ("nowhere",)) == 1
    assert line_of(lines, ()) == 1


def test_escapes_in_quoted_keys_are_read() -> None:
    lines = key_lines("\"tab\\t\\u00e9\\U0001F600\" = 1\n'raw\\t' = 2\n")
    assert lines == {("tab\té\U0001f600",): 1, ("raw\\t",): 2}


def test_a_multi_line_string_may_end_with_quotes_of_its_own() -> None:
    text = 'a = """said "x"""""\nb = \'\'\'it\'\'\'\'\nc = ""\nd = 1\n'
    assert tomllib.loads(text) == {"a": 'said "x""', "b": "it'", "c": "", "d": 1}
    assert key_lines(text) == {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4}


def test_a_table_named_before_it_is_opened_gets_the_line_of_its_own_header() -> None:
    assert key_lines("[a.b]\nx = 1\n[a]\ny = 2\n")[("a",)] == 3


@settings(deadline=None)
@given(st.text(st.sampled_from("ab=.,[]{}\"'#\\ \n"), max_size=30))
def test_the_scan_ends_on_any_text(text: str) -> None:
    assert all(line >= 1 for line in key_lines(text).values())
