"""Finds the line of every key in a TOML text that tomllib has already accepted (tomllib itself tells none).

Knows only TOML's grammar, nothing of policies. On a text that is not valid TOML the answer is unspecified.
"""

from __future__ import annotations

from bisect import bisect_right

Path = tuple[str | int, ...]

_BARE_END = " \t=.]\n\r"
_SCALAR_END = ",]}#\n\r"
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def key_lines(text: str) -> dict[Path, int]:
    """Line (1-based) of each key path; array elements and `[[table]]` rows have their index in the path."""
    return _Scanner(text).scan()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a path, or of its nearest ancestor that the text holds; line 1 for the whole file."""
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return 1


class _Scanner:
    """One pass over the text; `_at` is the next character to read, `lines` what was found so far."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._starts = [0] + [index + 1 for index, char in enumerate(self._text) if char == "\n"]
        self._rows: dict[Path, int] = {}
        self.lines: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        self._skip()
        while self._at < len(self._text):
            if self._text.startswith("[[", self._at):
                table = self._row_header()
            elif self._text[self._at] == "[":
                table = self._table_header()
            else:
                self._pair(table)
            self._skip()
        return self.lines

    def _row_header(self) -> Path:
        start, self._at = self._at, self._at + 2
        array = self._resolve(self._dotted())
        self._at += 2
        self._rows[array] = self._rows.get(array, -1) + 1
        self._note(array, start)
        return self._note((*array, self._rows[array]), start)

    def _table_header(self) -> Path:
        start, self._at = self._at, self._at + 1
        keys = self._dotted()
        self._at += 1
        for end in range(1, len(keys)):
            self._note(self._resolve(keys[:end]), start)
        table = self._resolve(keys)
        # A table may be opened again for its own keys after `[a.b]` has implied it: the explicit header wins.
        self.lines[table] = self._line(start)
        return table

    def _resolve(self, keys: list[str]) -> Path:
        """The path that header keys mean: a key that names an array of tables stands for its last row."""
        path: Path = ()
        for key in keys[:-1]:
            path = (*path, key)
            if path in self._rows:
                path = (*path, self._rows[path])
        return (*path, keys[-1])

    def _pair(self, table: Path) -> None:
        start = self._at
        path = table
        for key in self._dotted():
            path = self._note((*path, key), start)
        self._skip()
        self._at += 1  # the equals sign
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip()
        char = self._text[self._at : self._at + 1]
        if char in ('"', "'"):
            self._string()
        elif char == "[":
            self._array(path)
        elif char == "{":
            self._inline_table(path)
        else:
            self._at += 1  # even where nothing that TOML allows stands: the scan always comes to an end
            while self._at < len(self._text) and self._text[self._at] not in _SCALAR_END:
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._more("]"):
            self._value(self._note((*path, index), self._at))
            index += 1
            self._comma()

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._more("}"):
            self._pair(path)
            self._comma()

    def _more(self, closing: str) -> bool:
        """Whether another element follows; steps over the closing bracket if not."""
        self._skip()
        if self._text[self._at : self._at + 1] not in (closing, ""):
            return True
        self._at += 1
        return False

    def _comma(self) -> None:
        self._skip()
        if self._text[self._at : self._at + 1] == ",":
            self._at += 1

    def _dotted(self) -> list[str]:
        keys = [self._key()]
        while self._text[self._at : self._at + 1] == ".":
            self._at += 1
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        self._blanks()
        if self._text[self._at : self._at + 1] in ('"', "'"):
            key = self._string()
        else:
            start = self._at
            while self._at < len(self._text) and self._text[self._at] not in _BARE_END:
                self._at += 1
            key = self._text[start : self._at]
        self._blanks()
        return key

    def _string(self) -> str:
        """Steps over a string; its value is right for single-line ones, which are all that a key can be."""
        quote = self._text[self._at]
        fence = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        self._at += len(fence)
        value: list[str] = []
        while self._at < len(self._text) and not self._text.startswith(fence, self._at):
            value.append(self._character(quote))
        self._at += len(fence)
        while len(fence) == 3 and self._text[self._at : self._at + 1] == quote:
            self._at += 1  # up to two more quotes may belong to the string's end
        return "".join(value)

    def _character(self, quote: str) -> str:
        char = self._text[self._at]
        self._at += 1
        if char != "\\" or quote == "'":
            return char
        code = self._text[self._at : self._at + 1]
        self._at += 1
        width = {"u": 4, "U": 8}.get(code)
        if width is None:
            return _ESCAPES.get(code, "")
        self._at += width
        return chr(int(self._text[self._at - width : self._at], 16))

    def _blanks(self) -> None:
        while self._text[self._at : self._at + 1] in (" ", "\t"):
            self._at += 1

    def _skip(self) -> None:
        """Steps over white space, line ends and comments."""
        while self._at < len(self._text):
            if self._text[self._at] == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._text[self._at] in " \t\n\r":
                self._at += 1
            else:
                return

    def _note(self, path: Path, offset: int) -> Path:
        self.lines.setdefault(path, self._line(offset))
        return path

    def _line(self, offset: int) -> int:
        return bisect_right(self._starts, offset)
