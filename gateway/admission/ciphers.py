"""Encrypts and decrypts providers' keys with the operator's Fernet keys; knows no table.

Apart, because `cryptography` is loaded only where such keys are set.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from gateway.admission.terms import SecretKeyError

# Of 32 random bytes 30 are different on average; fewer than 20 is no accident but a typed or padded key.
LEAST_DIFFERENT_BYTES: Final = 20
FORM: Final = re.compile("[A-Za-z0-9_-]{43}=")


class Ciphers:
    """A token holds the secret's name beside its value, so that tokens can't change places in the table."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([_fernet(key) for key in keys])

    def encrypt(self, name: str, value: str) -> bytes:
        """A token under the newest key."""
        return self._fernet.encrypt(f"{name}\n{value}".encode())

    def decrypt(self, name: str, token: bytes) -> str | None:
        """The value, None where no key decrypts the token, or where it belongs to another name."""
        try:
            inside, _, value = self._fernet.decrypt(token).decode().partition("\n")
        except (InvalidToken, UnicodeDecodeError):
            return None
        return value if inside == name else None


def new_key() -> str:
    """A fresh Fernet key: 32 random bytes in URL-safe base64."""
    return Fernet.generate_key().decode()


def check_key(key: str, setting: str = "FINGERPOST_SECRET_KEYS") -> None:
    """Raise `SecretKeyError`, which names the setting, where this is no key of 32 random bytes."""
    # Python's own decoder skips what it does not know and stops at the first '='.
    if not FORM.fullmatch(key) or len(set(base64.urlsafe_b64decode(key))) < LEAST_DIFFERENT_BYTES:
        raise SecretKeyError(
            f"{setting} must hold Fernet keys (32 random bytes in URL-safe base64), newest first, comma "
            "between; `fingerpost secrets new-key` makes one"
        )


def _fernet(key: str) -> Fernet:
    check_key(key)
    return Fernet(key)
