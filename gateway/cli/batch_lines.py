"""The two files of a batch, in OpenAI's form: requests that are checked before any is sent, answers that are appended.

Knows no gateway.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import msgspec

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/rerank", "/v1/responses")
_FORM = '{"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}'
_MOST_FAULTS_TOLD = 20


class BatchError(ValueError):
    """What keeps a batch from being sent, with the way to mend it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One request as it will be sent; `body` is as it was written, `model` what it names ("" for nothing)."""

    number: int
    custom_id: str
    url: str
    body: bytes
    model: str


class _Sent(msgspec.Struct):
    body: msgspec.Raw


def read_lines(path: Path) -> list[Line]:
    """All requests of a file; `BatchError` names each faulty line, its field and the fix."""
    found: list[Line] = []
    faults: list[str] = []
    first: dict[str, int] = {}
    for number, raw in enumerate(path.read_bytes().splitlines(), 1):
        if not raw.strip():
            continue
        try:
            line = _line(number, raw)
        except BatchError as error:
            faults.append(str(error))
            continue
        if line.custom_id in first:
            faults.append(
                f"line {number}: 'custom_id' {line.custom_id!r} is that of line {first[line.custom_id]} too:"
                " give each line its own"
            )
        first.setdefault(line.custom_id, number)
        found.append(line)
    if len(faults) > _MOST_FAULTS_TOLD:
        faults[_MOST_FAULTS_TOLD:] = [f"... and {len(faults) - _MOST_FAULTS_TOLD} more"]
    if faults:
        raise BatchError("\n".join(f"{path}, {one}" if one.startswith("line") else one for one in faults))
    return found


def _line(number: int, raw: bytes) -> Line:
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BatchError(f"line {number} is not JSON ({error}): write one object a line, such as {_FORM}") from error
    if not isinstance(fields, dict):
        raise BatchError(f"line {number} is no object: write {_FORM}")
    custom_id, url, body = fields.get("custom_id"), fields.get("url"), fields.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise BatchError(f"line {number}: 'custom_id' must be a text that no other line has")
    if fields.get("method", "POST") != "POST":
        raise BatchError(f"line {number}: 'method' must be \"POST\", not {fields['method']!r}")
    if url not in URLS:
        raise BatchError(f"line {number}: 'url' must be one of {', '.join(URLS)}, not {url!r}")
    if not isinstance(body, dict):
        raise BatchError(f"line {number}: 'body' must be the request, an object")
    if body.get("stream"):
        raise BatchError(f"line {number}: 'body.stream' must be false: answers of a batch are whole")
    model = body.get("model")
    return Line(number, custom_id, url, bytes(msgspec.json.decode(raw, type=_Sent).body), str(model or ""))


class Answers:
    """The answers' file, held by one run at a time. `done` are the custom_ids that it has an answer of."""

    def __init__(self, file: int, done: set[str]) -> None:
        self._file = file
        self.done = done

    @classmethod
    def opened(cls, path: Path) -> Self:
        """To be appended to; half a line, which a crash leaves, is cut off. `BatchError` where it is no such file."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            written = path.read_bytes()
            done = {_custom_id(path, number, raw) for number, raw in enumerate(_whole(written).splitlines(), 1)}
            os.ftruncate(file, len(_whole(written)))
        except BlockingIOError as error:
            os.close(file)
            raise BatchError(f"--out {path} is being written by another batch: wait for it, or name another") from error
        except BatchError:
            os.close(file)
            raise
        return cls(file, done)

    def put(self, custom_id: str, response: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> None:
        """Append one answer; a reader sees whole lines."""
        line = {"id": f"batch_req_{uuid4().hex}", "custom_id": custom_id, "response": response, "error": error}
        left = msgspec.json.encode(line) + b"\n"
        while left:
            left = left[os.write(self._file, left) :]
        self.done.add(custom_id)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def _whole(written: bytes) -> bytes:
    return written[: written.rfind(b"\n") + 1]


def _custom_id(path: Path, number: int, raw: bytes) -> str:
    try:
        return str(msgspec.json.decode(raw)["custom_id"])
    except (msgspec.DecodeError, UnicodeError, KeyError, TypeError) as error:
        raise BatchError(f"--out {path}, line {number} is no answer of a batch: name another file") from error
