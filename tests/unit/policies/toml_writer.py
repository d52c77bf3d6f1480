"""Writes random documents as TOML in every style the language allows, and notes the line of each key."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

KEYS = st.one_of(
    st.sampled_from(["a", "b", "cost", "k-1", "9"]), st.sampled_from(["a.b", "with space", "#", "é", '"', "="])
)
TEXTS = st.text(st.sampled_from("ab #=[]{}\"'\\,.\n\té"), max_size=8)
SCALARS = st.one_of(st.integers(-9, 99), st.booleans(), TEXTS, st.floats(-1, 1).map(lambda number: round(number, 3)))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)
ROWS = st.lists(TABLES, min_size=1, max_size=3)
DOCUMENTS = st.tuples(TABLES, st.dictionaries(KEYS, st.one_of(TABLES, ROWS), max_size=3))


@dataclass
class Writer:
    """Text so far; `choose` draws the style; `lines` is the truth that the scanner has to find."""

    choose: Any
    text: str = ""
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)

    def document(self, top: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
        self.noise()
        self.pairs(top, ())
        for key, value in tables.items():
            if key not in top:
                self.table(key, value)
        return {**{key: value for key, value in tables.items() if key not in top}, **top}

    def table(self, key: str, value: Any) -> None:
        rows = value if isinstance(value, list) else None
        for index, row in enumerate(rows if rows is not None else [value]):
            path = (key,) if rows is None else (key, index)
            self.note((key,), keep=True)
            self.note(path)
            name = self.pick([" ", ""]) + self.key(key) + self.pick(["", " "])
            self.text += f"[[{name}]]" if rows is not None else f"[{name}]"
            self.line_end()
            self.pairs(row, path)

    def pairs(self, table: dict[str, Any], path: tuple[str | int, ...]) -> None:
        for key, value in table.items():
            self.note((*path, key))
            self.text += self.pick(["", "  "]) + self.key(key) + self.pick(["=", " = "])
            self.value(value, (*path, key))
            self.line_end()

    def value(self, value: Any, path: tuple[str | int, ...], one_line: bool = False) -> None:
        if isinstance(value, dict):
            self.text += "{"
            for index, (key, child) in enumerate(value.items()):
                self.text += ", " if index else " "
                self.note((*path, key))
                self.text += self.key(key) + " = "
                self.value(child, (*path, key), one_line=True)
            self.text += " }"
        elif isinstance(value, list):
            self.text += "["
            for index, child in enumerate(value):
                self.text += self.pick([" ", " ", '\n  # a comment, with = [ " signs\n\t']) if not one_line else ""
                self.note((*path, index))
                self.value(child, (*path, index), one_line)
                self.text += ","
            self.text += "]" if one_line else self.pick(["]", "\n]"])
        else:
            self.text += self.scalar(value, one_line)

    def scalar(self, value: Any, one_line: bool) -> str:
        if not isinstance(value, str):
            return json.dumps(value)
        quoted = json.dumps(value)
        if one_line or "\n" not in value:
            return f"'{value}'" if self.pick([0, 1]) and not set(value) & set("'\n\t") else quoted
        body = value.replace("\\", "\\\\").replace('"', '\\"')
        return str(self.pick([quoted, f'"""\n{body}"""']))

    def key(self, key: str) -> str:
        bare = key.isascii() and key.replace("-", "").isalnum()
        return key if bare and self.pick([0, 0, 1]) == 0 else json.dumps(key)

    def line_end(self) -> None:
        self.text += self.pick(["\n", " # [not.a.table] = 1\n", "\n\n"])
        self.noise()

    def noise(self) -> None:
        self.text += self.pick(["", "", '# a = "x\n', "   \n"])

    def note(self, path: tuple[str | int, ...], keep: bool = False) -> None:
        if not (keep and path in self.lines):
            self.lines[path] = self.text.count("\n") + 1

    def pick(self, options: list[Any]) -> Any:
        return self.choose(st.sampled_from(options))
