"""Every setting stands in docs/operations.md with its default, and nothing stands there that is no setting."""

from __future__ import annotations

import re
from typing import Any

from gateway.settings import PREFIX, Settings
from tests.house.source import ROOT, report

ROW = re.compile(rf"^\| `{PREFIX}(\w+)` \| (?:`([^`]*)`)? *\|", re.MULTILINE)


def differences(page: str, defaults: dict[str, Any]) -> list[str]:
    """What page and settings say differently."""
    said = {name.lower(): text for name, text in ROW.findall(page)}
    found = [f"{name} is not on the page" for name in sorted(defaults.keys() - said.keys())]
    found += [f"{name} is no setting" for name in sorted(said.keys() - defaults.keys())]
    for name in sorted(said.keys() & defaults.keys()):
        default = "" if defaults[name] is None else str(defaults[name])
        if said[name] != default:
            found.append(f"{name}: the page says {said[name]!r}, the default is {default!r}")
    return found


def test_the_page_of_settings_is_complete_and_right() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}

    found = differences((ROOT / "docs" / "operations.md").read_text(encoding="utf-8"), defaults)

    assert not found, report(found)


def test_every_difference_is_found() -> None:
    page = "| `FINGERPOST_HOST` | `0.0.0.0` | where |\n| `FINGERPOST_GONE` | | why |\n"

    assert differences(page, {"host": "127.0.0.1", "port": 1}) == [
        "port is not on the page",
        "gone is no setting",
        "host: the page says '0.0.0.0', the default is '127.0.0.1'",
    ]
