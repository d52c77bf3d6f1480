"""Files that are no readable TOML: each gets one sentence with the place and the fix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policies.document import MAX_BYTES, parse_document, read_document
from policies.errors import PolicyError


def refusal(text: str) -> str:
    """What is said about a text that is refused."""
    with pytest.raises(PolicyError) as caught:
        parse_document(text, "p.toml")
    return str(caught.value)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\n")
    assert read_document(path).body == {"a": 1}


def test_a_missing_file_is_named_with_what_to_check(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(PolicyError, match=r"none\.toml: does not exist\. Fix: check the path\."):
        read_document(path)


def test_a_pipe_or_folder_is_refused_without_reading(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(PolicyError, match="is not a regular file"):
            read_document(path)


def test_a_file_of_more_than_a_megabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.toml"
    path.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(PolicyError, match="is larger than 1 MB"):
        read_document(path)
    assert "is larger than 1 MB" in refusal("é" * (MAX_BYTES // 2 + 1))


def test_bytes_that_are_no_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b"a = 1\nb = '\xe9'\n")
    with pytest.raises(PolicyError, match=r"latin\.toml:2: is not UTF-8 text\. Fix: save the file as UTF-8\."):
        read_document(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = 1\nb = [1,,2]\n", "p.toml:2: column 8: not valid TOML"),
        ("a = 1\na = 2\n", "Fix: keep one of the two definitions of this key."),
        ("a = 'x\nb = 1", "p.toml:2: end of the file: not valid TOML"),
        ('a = "x\nb = 1"', "Fix: close the quotes on the same line (or use triple quotes)."),
        ("a = '\ud800'", "is not UTF-8 text"),
        ("a = [1", "p.toml:1: end of the file: not valid TOML"),
        (r'a = "\sum"', "Fix: write \\\\ for a backslash, or put the text in 'single quotes'."),
        ("just words", 'Fix: write keys as name = value, text in "quotes", lists in [brackets].'),
        ("a = " + "[" * 3000, "is nested too deeply"),
        ("a = 1" + "0" * 5000, "holds a number of too many digits"),
    ],
)
def test_syntax_errors_keep_their_place_and_bring_a_fix(text: str, said: str) -> None:
    assert said in refusal(text)


def test_values_that_no_key_takes_are_told_together() -> None:
    said = refusal("a = 2026-01-01\nb = [1, 07:30:00]\nc = 9223372036854775808\n" + "d = " + "[" * 40 + "]" * 40)
    assert [line.split(":")[1] for line in said.splitlines()] == ["1", "2", "3", "4"]
    assert "b[#2]: a date or time is not allowed here. Fix: put it in quotes." in said
    assert "c: is a number of more than 64 bits" in said
