"""Router kinds by the stem of their file."""

from __future__ import annotations

import sys
from importlib import invalidate_caches
from pathlib import Path

import pytest

import routers.kinds
from routers.find import kinds, router_class

FOLDER = Path(__file__).parents[3] / "routers" / "kinds"


def test_every_file_is_a_kind() -> None:
    assert kinds() == sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))
    assert {"fixed", "random_choice", "rules"} <= set(kinds())


def test_a_kind_is_the_class_that_bears_its_name() -> None:
    assert router_class("rules").__name__ == "RuleRouter"
    assert router_class("random_choice").kind == "random_choice"


@pytest.mark.parametrize("kind", ["ruels", "__init__", "../choose", "choose", ""])
def test_an_unknown_kind_is_refused_with_the_known_ones(kind: str) -> None:
    with pytest.raises(ValueError, match=r"known: .*fixed.*rules"):
        router_class(kind)


def test_the_nearest_kind_is_suggested() -> None:
    with pytest.raises(ValueError, match="did you mean 'rules'"):
        router_class("ruels")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import a_package_that_is_nowhere", "needs the package 'a_package_that_is_nowhere', which is not installed"),
        ("class Nameless: ...", "defines no class with kind = 'broken_kind'"),
    ],
)
def test_a_file_that_is_no_router_is_refused_with_the_reason(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_kind.py").write_text(source)
    monkeypatch.setattr(routers.kinds, "__path__", [*routers.kinds.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "routers.kinds.broken_kind", raising=False)
    invalidate_caches()
    with pytest.raises(ValueError, match=said):
        router_class("broken_kind")
