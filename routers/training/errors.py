"""What is wrong with data to learn from: where, what, and how to mend it. Knows no file format."""

from __future__ import annotations


class DataError(ValueError):
    """Data that can't be used; the message is one line that names file, row and field, and ends with the fix.

    Rows are counted as an editor or spreadsheet shows them: a CSV's header is row 1, a JSONL's first object is.
    """

    def __init__(
        self, what: str, *, file: str = "", row: int | None = None, field: str | None = None, fix: str = ""
    ) -> None:
        self.what, self.file, self.row, self.field, self.fix = what, file, row, field, fix
        places = (file, "" if row is None else f"row {row}", "" if field is None else f"field '{field}'")
        where = ", ".join(filter(None, places))
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message}. Fix: {fix}." if fix else f"{message}.")


def shown(value: object, longest: int = 60) -> str:
    """A value as it may stand in a message: on one line, and not for pages."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."
