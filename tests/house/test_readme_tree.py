"""The tree that README shows is the real one.

Read is the first fenced block below the heading "## The tree". A line that begins with `name/` names a top-level
folder; an indented line whose first word ends in "/" names a folder in the one above; other lines are description.
"""

from __future__ import annotations

import re

from tests.house.source import ROOT, report, tracked

Tree = dict[str, set[str]]
# Folders that no reader looks for: version control's and tools' own.
UNSHOWN = re.compile(r"^\.")


def shown(readme: str) -> Tree:
    """Top-level folders that the block names, with their folders as far as it names any."""
    block = re.search(r"^## The tree\s*$.*?^```[^\n]*\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    tree: Tree = {}
    for line in block.group(1).splitlines() if block else ():
        words = re.sub(r"[│├└─]", " ", line)
        first = words.split()[0] if words.split() else ""
        if not first.endswith("/"):
            continue
        if line[0] in " │" and tree:
            tree[list(tree)[-1]].add(first.rstrip("/"))
        else:
            tree[first.rstrip("/")] = set()
    return tree


def real(paths: tuple[str, ...]) -> Tree:
    """Top-level folders with their folders."""
    tree: Tree = {}
    for path in paths:
        first, *rest = path.split("/")
        if rest and not UNSHOWN.match(first):
            folders = tree.setdefault(first, set())
            if len(rest) > 1:
                folders.add(rest[0])
    return tree


def differences(named: Tree, existing: Tree) -> list[str]:
    """What is named and does not exist, or exists and is not named."""
    found = [f"{name}/ is not in README" for name in sorted(existing.keys() - named.keys())]
    found += [f"{name}/ does not exist" for name in sorted(named.keys() - existing.keys())]
    for name in sorted(named.keys() & existing.keys()):
        if named[name]:
            found += [f"{name}/{inner}/ is not in README" for inner in sorted(existing[name] - named[name])]
            found += [f"{name}/{inner}/ does not exist" for inner in sorted(named[name] - existing[name])]
    return found


def test_readme_shows_the_real_tree() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    found = differences(shown(readme), real(tracked()))

    assert not found, report(found)


def test_a_tree_is_read_whatever_it_is_drawn_with() -> None:
    plain = (
        "## The tree\n\n```text\ngateway/   settings · app\n    wire/    forms\n           more words\npolicies/\n```\n"
    )
    drawn = "## The tree\n```\n├── gateway/\n│   └── wire/\n└── policies/\n```\n"

    assert shown(plain) == shown(drawn) == {"gateway": {"wire"}, "policies": set()}


def test_every_difference_is_found() -> None:
    existing = real(("gateway/wire/sse.py", "gateway/app.py", "policies/load.py", "README.md", ".ci/run"))

    found = differences({"gateway": {"wire", "ui"}, "routers": set()}, existing)

    assert found == ["policies/ is not in README", "routers/ does not exist", "gateway/ui/ does not exist"]
