"""Providers' keys under Fernet."""

from __future__ import annotations

import base64

import pytest
from cryptography.fernet import Fernet

from gateway.admission.ciphers import Ciphers, new_key
from gateway.admission.secrets import ciphers_of
from gateway.admission.terms import SecretKeyError


def test_what_one_encrypts_another_with_the_same_key_decrypts() -> None:
    key = new_key()
    token = Ciphers([key]).encrypt("OPENAI", "sk-1")

    assert Ciphers([new_key(), key]).decrypt("OPENAI", token) == "sk-1"
    assert Ciphers([new_key()]).decrypt("OPENAI", token) is None
    assert b"sk-1" not in token


def test_the_newest_key_encrypts() -> None:
    old, new = new_key(), new_key()

    token = Ciphers([new, old]).encrypt("A", "sk-1")

    assert Ciphers([new]).decrypt("A", token) == "sk-1"


def test_a_token_does_not_open_under_another_name_or_after_a_change() -> None:
    ciphers = Ciphers([new_key()])
    token = ciphers.encrypt("A", "sk-1")

    assert ciphers.decrypt("B", token) is None
    assert ciphers.decrypt("A", token[:-3] + b"xx=") is None
    assert ciphers.decrypt("A", b"") is None


@pytest.mark.parametrize(
    "keys",
    [
        "password",
        "x" * 43 + "=",
        base64.urlsafe_b64encode(b"correct horse battery staple 123"[:16] * 2).decode(),
        Fernet.generate_key().decode()[:-2],
        "ключ",
        f"{Fernet.generate_key().decode()};{Fernet.generate_key().decode()}",
    ],
    ids=["password", "padded", "words", "cut", "not ASCII", "semicolon"],
)
def test_a_weak_or_broken_key_is_refused_without_being_told(keys: str) -> None:
    with pytest.raises(SecretKeyError, match="new-key") as refused:
        ciphers_of(keys)

    assert keys not in str(refused.value)


def test_no_keys_are_no_ciphers_and_commas_stand_between() -> None:
    assert ciphers_of(" , ") is None
    assert ciphers_of(f" {new_key()} ,{new_key()},") is not None
