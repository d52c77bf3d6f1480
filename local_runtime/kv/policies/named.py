"""Policies by the words of a setting."""

from __future__ import annotations

import json
from pathlib import Path

from local_runtime.kv.policies.base import KvPolicy
from local_runtime.kv.policies.cake import Cake
from local_runtime.kv.policies.mixed import MixedBits
from local_runtime.kv.policies.prefix import PrefixKv
from local_runtime.kv.policies.window import SinkWindow

FULL = "full"
WORDS = "full, window:TOKENS, cake:TOKENS[:early], prefix:TOKENS[:early], bits:KEYS,VALUES or bits:FILE"


def policy_of(words: str, group: int) -> KvPolicy | None:
    """The policy that `words` name (see WORDS), None for full; `group`: query heads a key-value head.

    TOKENS are kept a layer, on average. `early`: prompts are thinned while they come, not at their end. FILE holds
    pairs as JSON, one a layer. ValueError for anything else.
    """
    name, _, rest = words.partition(":")
    amount, _, early = rest.partition(":")
    if words == FULL:
        return None
    if name == "bits" and rest:
        return MixedBits(_pairs(rest))
    if not amount.isdecimal() or early not in ("", "early") or (name == "window" and early):
        raise ValueError(f"kv_policy must be {WORDS}; not {words!r}")
    if name == "window":
        return SinkWindow(int(amount))
    if name in ("cake", "prefix"):
        kind = Cake if name == "cake" else PrefixKv
        return kind(int(amount), group, after_prompt=not early)
    raise ValueError(f"kv_policy must be {WORDS}; not {words!r}")


def _pairs(words: str) -> list[tuple[int, int]]:
    keys, _, values = words.partition(",")
    if keys.isdecimal() and values.isdecimal():
        return [(int(keys), int(values))]
    try:
        return [(int(pair[0]), int(pair[1])) for pair in json.loads(Path(words).read_text())]
    except (OSError, ValueError, TypeError, IndexError, KeyError) as error:
        raise ValueError(f"kv_policy: {words} holds no pairs of bits, one a layer, as JSON: {error}") from error
