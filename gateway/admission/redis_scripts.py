"""The Lua scripts that keep gauges in Redis, ready to be run on a link; their texts lie in lua/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.redis_link import RedisLink, Script

_FOLDER: Final = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Scripts:
    """One for each step; their arguments and replies are told in the head of each file."""

    admit: Script
    extend: Script
    settle: Script
    count: Script
    renew: Script
    reap: Script
    seed: Script
    restore: Script
    levels: Script


def scripts_on(link: RedisLink) -> Scripts:
    """All scripts, each with what they share in front of it."""
    return Scripts(**{name: link.script(script_text(name)) for name in Scripts.__dataclass_fields__})


def script_text(name: str) -> str:
    """What Redis is given to run."""
    return "\n".join((_FOLDER / f"{part}.lua").read_text(encoding="utf-8") for part in ("base", name))
