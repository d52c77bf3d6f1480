"""Public ids of keys, tenants, budgets and limits."""

from __future__ import annotations

import secrets
from typing import Final

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


def new_id() -> str:
    """12 of 36 characters, 62 bits; no dash or underscore, so that a command line never takes it for an option."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(12))
