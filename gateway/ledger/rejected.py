"""Where records go that no database will take, for a person to look at; blocking: call from a thread."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

MAX_BYTES: Final = 64 * 1024 * 1024


def put_aside(path: Path, refused: Sequence[tuple[str, object]], max_bytes: int = MAX_BYTES) -> None:
    """Append `{"reason": ..., "record": ...}` for each to a JSON lines file, until that holds `max_bytes`.

    One write a call, so that processes may share the file. Raises `OSError` when the disk refuses.
    """
    payload = b"".join(_as_line(reason, record) for reason, record in refused)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.fstat(descriptor).st_size + len(payload) <= max_bytes:
            os.write(descriptor, payload)
    finally:
        os.close(descriptor)


def _as_line(reason: str, record: object) -> bytes:
    try:
        return msgspec.json.encode({"reason": reason, "record": record}, enc_hook=ascii) + b"\n"
    except (ValueError, TypeError, RecursionError):  # what made it unfit for a database may make it unfit for JSON
        return msgspec.json.encode({"reason": reason, "record": f"{type(record).__name__}, not showable"}) + b"\n"
