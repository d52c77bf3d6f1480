"""Answers as bytes: a checked form of documents and of what finds them. Knows no key and no server."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from gateway.cache.base import Known, Stored

_PLAIN: Final = 0
_ZLIB: Final = 1
# Below this many bytes there is nothing to win.
_COMPRESSED_FROM: Final = 200
_CHECK_BYTES: Final = 4
_MOST_BYTES: Final = 256 * 2**20


class CorruptError(ValueError):
    """Bytes that were not written here, not for this answer, or not whole."""


class _Document(msgspec.Struct, array_like=True, frozen=True):
    """A document but for what `_Finding` says; strings as bytes, since texts of clients may not be Unicode."""

    partition: bytes
    exact: bytes
    category: bytes
    topic: bytes
    model: bytes
    endpoint: bytes
    created_s: float
    expires_s: float
    input_tokens: int
    output_tokens: int
    cost_nanousd: int
    tags: tuple[bytes, ...]
    end_user: bytes | None
    can_be_found: bool
    length: int
    form: int
    body: bytes
    stale_s: float = 0.0


class _Finding(msgspec.Struct, array_like=True, frozen=True):
    """What is known of an answer; the vector as float16."""

    partition: bytes
    topic: bytes
    text: bytes
    embedder: bytes
    expires_s: float
    vector: bytes
    stale_s: float = 0.0


_write: Final = msgspec.msgpack.Encoder().encode
_read_document: Final = msgspec.msgpack.Decoder(_Document).decode
_read_finding: Final = msgspec.msgpack.Decoder(_Finding).decode


def packed_document(stored: Stored) -> bytes:
    """All of an answer but its text, vector and embedder, which `packed_known` holds."""
    body, form = stored.body, _PLAIN
    if len(body) >= _COMPRESSED_FROM:
        body, form = zlib.compress(body, 1), _ZLIB
    document = _Document(
        _bytes(stored.partition), _bytes(stored.exact), _bytes(stored.category), _bytes(stored.topic),
        _bytes(stored.model), _bytes(stored.endpoint), stored.created_s, stored.expires_s, stored.input_tokens,
        stored.output_tokens, stored.cost_nanousd, tuple(map(_bytes, stored.tags)),
        None if stored.end_user is None else _bytes(stored.end_user), stored.vector is not None,
        len(stored.body), form, body, stored.stale_s,
    )  # fmt: skip
    return _checked(stored.tenant, stored.id, _write(document))


def unpacked_document(tenant: str, answer_id: str, data: bytes, known: bytes) -> Stored:
    """The answer of this tenant and id; raises `CorruptError`."""
    try:
        read = _read_document(_payload(tenant, answer_id, data))
        stored = Stored(
            answer_id, tenant, _text(read.partition), _text(read.exact), _text(read.category), _body(read),
            _text(read.model), _text(read.endpoint), read.created_s, read.expires_s, read.input_tokens,
            read.output_tokens, read.cost_nanousd, tuple(map(_text, read.tags)),
            None if read.end_user is None else _text(read.end_user), topic=_text(read.topic),
            stale_s=read.stale_s,
        )  # fmt: skip
    except (msgspec.MsgspecError, zlib.error, UnicodeDecodeError) as error:
        raise CorruptError("no document") from error
    if not read.can_be_found:
        return stored
    found = unpacked_known(tenant, answer_id, known)
    return replace(stored, text=found.text, vector=found.vector, embedder=found.embedder)


def packed_known(known: Known) -> bytes:
    """What finds an answer; its vector as float16."""
    finding = _Finding(
        _bytes(known.partition), _bytes(known.topic), _bytes(known.text), _bytes(known.embedder), known.expires_s,
        known.vector.astype("<f2").tobytes(), known.stale_s,
    )  # fmt: skip
    return _checked(known.tenant, known.id, _write(finding))


def unpacked_known(tenant: str, answer_id: str, data: bytes) -> Known:
    """What finds the answer of this tenant and id; raises `CorruptError`."""
    try:
        read = _read_finding(_payload(tenant, answer_id, data))
        vector = np.frombuffer(read.vector, "<f2").astype(np.float32)
        partition, topic, text, embedder = map(_text, (read.partition, read.topic, read.text, read.embedder))
    except (msgspec.MsgspecError, ValueError) as error:
        raise CorruptError("nothing that finds an answer") from error
    return Known(answer_id, tenant, partition, topic, text, vector, embedder, read.expires_s, read.stale_s)


def _body(read: _Document) -> bytes:
    if read.form == _PLAIN:
        body = read.body
    elif 0 <= read.length <= _MOST_BYTES:
        body = zlib.decompressobj().decompress(read.body, read.length + 1)
    else:
        raise CorruptError("a document that is too long")
    if len(body) != read.length:
        raise CorruptError("a document that is not whole")
    return body


def _checked(tenant: str, answer_id: str, payload: bytes) -> bytes:
    return _check(tenant, answer_id, payload) + payload


def _payload(tenant: str, answer_id: str, data: bytes) -> bytes:
    payload = data[_CHECK_BYTES:]
    if data[:_CHECK_BYTES] != _check(tenant, answer_id, payload):
        raise CorruptError("the checksum is wrong")
    return payload


def _check(tenant: str, answer_id: str, payload: bytes) -> bytes:
    """Whose it is is part of the sum, so that one answer's bytes are none of another's."""
    return zlib.crc32(payload, zlib.crc32(_bytes(f"{tenant}\0{answer_id}"))).to_bytes(_CHECK_BYTES, "little")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
