"""The bytes in which answers leave this process: packed, and where the operator has set keys for them encrypted.

AES-256-GCM with a key for each tenant, derived from the operator's (HKDF-SHA256, RFC 5869). Whose answer it is and
which is authenticated with it, so that nobody's bytes pass for another's. Where there are keys, nothing is read that
was written without: whoever may write to Redis still can't put words into a model's mouth.
"""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

from gateway.cache.base import Known, Stored
from gateway.cache.packed import CorruptError, packed_document, packed_known, unpacked_document, unpacked_known

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MAGIC: Final = b"fpc\x01"
_MARK_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = len(_MAGIC) + _MARK_BYTES + _NONCE_BYTES
# A derived key and its cipher take microseconds to make and 1 KB to keep.
_CIPHERS_KEPT: Final = 4_096


class SealedOtherwise(Exception):
    """An answer that others may well read: encrypted with a key that is not here, or plain though there are keys."""


class Form(Protocol):
    """Answers as bytes and back; `counts` says how often something could not be read.

    Reading raises `CorruptError`, and `SealedOtherwise`.
    """

    counts: Counter[str]

    def document(self, stored: Stored) -> bytes:
        """All of an answer but what finds it."""

    def known(self, known: Known) -> bytes:
        """What finds it."""

    def read_document(self, tenant: str, answer_id: str, data: bytes, known: bytes) -> Stored:
        """The answer of this tenant and id."""

    def read_known(self, tenant: str, answer_id: str, data: bytes) -> Known:
        """What finds it."""


class Plain:
    """`Form`: packed, no more."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def document(self, stored: Stored) -> bytes:
        """See `Form`."""
        return packed_document(stored)

    def known(self, known: Known) -> bytes:
        """See `Form`."""
        return packed_known(known)

    def read_document(self, tenant: str, answer_id: str, data: bytes, known: bytes) -> Stored:
        """See `Form`."""
        return unpacked_document(tenant, answer_id, self._open(data), known)

    def read_known(self, tenant: str, answer_id: str, data: bytes) -> Known:
        """See `Form`."""
        return unpacked_known(tenant, answer_id, self._open(data))

    def _open(self, data: bytes) -> bytes:
        if data.startswith(_MAGIC):
            self.counts["sealed_otherwise"] += 1
            raise SealedOtherwise
        return data


class Sealed:
    """`Form`: encrypted. The first of `masters` (32 bytes each) encrypts, all of them decrypt."""

    def __init__(self, masters: Sequence[bytes]) -> None:
        self._masters = {_mark_of(master): master for master in masters}
        self._newest = _mark_of(masters[0])
        self._cipher = lru_cache(_CIPHERS_KEPT)(self._cipher_of)
        self.counts: Counter[str] = Counter()

    def document(self, stored: Stored) -> bytes:
        """See `Form`."""
        return self._seal(b"document", stored.tenant, stored.id, packed_document(stored))

    def known(self, known: Known) -> bytes:
        """See `Form`."""
        return self._seal(b"known", known.tenant, known.id, packed_known(known))

    def read_document(self, tenant: str, answer_id: str, data: bytes, known: bytes) -> Stored:
        """See `Form`."""
        opened = self._open(b"known", tenant, answer_id, known) if known else b""
        return unpacked_document(tenant, answer_id, self._open(b"document", tenant, answer_id, data), opened)

    def read_known(self, tenant: str, answer_id: str, data: bytes) -> Known:
        """See `Form`."""
        return unpacked_known(tenant, answer_id, self._open(b"known", tenant, answer_id, data))

    def _seal(self, kind: bytes, tenant: str, answer_id: str, data: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        inside = self._cipher(self._newest, tenant).encrypt(nonce, data, _whose(kind, tenant, answer_id))
        return _MAGIC + self._newest + nonce + inside

    def _open(self, kind: bytes, tenant: str, answer_id: str, data: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        mark = data[len(_MAGIC) : len(_MAGIC) + _MARK_BYTES]
        if not data.startswith(_MAGIC) or mark not in self._masters:
            self.counts["sealed_otherwise"] += 1
            raise SealedOtherwise
        nonce, inside = data[_HEAD_BYTES - _NONCE_BYTES : _HEAD_BYTES], data[_HEAD_BYTES:]
        try:
            return self._cipher(mark, tenant).decrypt(nonce, inside, _whose(kind, tenant, answer_id))
        except (InvalidTag, ValueError) as error:
            self.counts["seal_broken"] += 1
            raise CorruptError("the seal is broken") from error

    def _cipher_of(self, mark: bytes, tenant: str) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = b"fingerpost cache\0" + _bytes(tenant)
        return AESGCM(HKDF(SHA256(), length=32, salt=None, info=info).derive(self._masters[mark]))


def form_of(keys: str) -> Form:
    """From keys with commas between, the newest first, each 32 random bytes in URL-safe base64; without keys `Plain`.

    Raises `SecretKeyError`.
    """
    given = [one.strip() for one in keys.split(",") if one.strip()]
    if not given:
        return Plain()
    from gateway.admission.ciphers import check_key

    for one in given:
        check_key(one, "FINGERPOST_CACHE_KEYS")
    return Sealed([base64.urlsafe_b64decode(one) for one in given])


def _mark_of(master: bytes) -> bytes:
    """Which key it is, saying nothing of the key."""
    return sha256(b"fingerpost cache mark\0" + master).digest()[:_MARK_BYTES]


def _whose(kind: bytes, tenant: str, answer_id: str) -> bytes:
    return b"\0".join((kind, _bytes(tenant), _bytes(answer_id)))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
