"""A gateway is put together in `gateway/build.py`, a model by itself in `gateway/alone.py`; tests give fakes."""

from __future__ import annotations

import ast

from tests.house.source import Source, called, calls, parse, sources

ROOT_FILE = "gateway/build.py"
ROOTS = {ROOT_FILE, "gateway/alone.py"}
ALONE = "a command works on the database without a gateway"
ALLOWED = {
    ("gateway/cli/cache_log.py", "EvidenceStore"): ALONE,
    ("gateway/cli/policy.py", "PolicySources"): ALONE,
    ("gateway/cli/policy.py", "PolicyVersions"): ALONE,
}


def own_classes(files: tuple[Source, ...]) -> dict[str, str]:
    """Name of each class to the path of the file that defines it."""
    return {
        node.name: source.path for source in files for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)
    }


def parts(root: Source, classes: dict[str, str]) -> set[str]:
    """What the composition root constructs."""
    return {called(call) for call in calls(root.tree) if called(call) in classes}


def constructions(source: Source, wanted: set[str], classes: dict[str, str]) -> list[tuple[str, str]]:
    """Path and class of every part constructed here, but for a class' own file (its factories)."""
    names = {called(call).split(".")[-1] for call in calls(source.tree)}
    return sorted((source.path, name) for name in names & wanted if classes[name] != source.path)


def _elsewhere() -> list[tuple[str, str]]:
    files = sources("gateway")
    classes = own_classes(files)
    (root,) = (source for source in files if source.path == ROOT_FILE)
    wanted = parts(root, classes)
    return [one for source in files if source.path not in ROOTS for one in constructions(source, wanted, classes)]


def test_parts_are_constructed_in_the_composition_root_only() -> None:
    assert [one for one in _elsewhere() if one not in ALLOWED] == []


def test_every_allowance_is_still_needed() -> None:
    assert set(ALLOWED) - set(_elsewhere()) == set()


def test_the_root_constructs_the_main_parts() -> None:
    files = sources("gateway")
    (root,) = (source for source in files if source.path == ROOT_FILE)

    assert {"Gateway", "Pipeline", "Dispatcher", "LedgerWriter", "Keyring"} <= parts(root, own_classes(files))


def test_a_part_constructed_elsewhere_is_found() -> None:
    classes = {"Pipeline": "gateway/pipeline.py", "Meter": "gateway/meter.py"}
    text = "def handle():\n    return pipeline.Pipeline(Meter())"

    assert constructions(parse(text), {"Pipeline"}, classes) == [("gateway/snippet.py", "Pipeline")]
    assert constructions(parse(text, "gateway/pipeline.py"), {"Pipeline"}, classes) == []
