"""Nothing that runs code when it is read: artifacts are JSON, npz without objects, safetensors, GGUF."""

from __future__ import annotations

import ast

from tests.house.source import OWN, Source, called, calls, imports, parse, report, sources

MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}


def pickles(source: Source) -> list[str]:
    """Imports of pickle and its kin, and loaders that fall back to it."""
    found = [source.at(line, name) for line, name in imports(source) if name.split(".")[0] in MODULES]
    for call in calls(source.tree):
        given = {one.arg: one.value for one in call.keywords}
        if called(call) == "torch.load" and not _is(given.get("weights_only"), True):
            found.append(source.at(call, "torch.load without weights_only=True"))
        if "allow_pickle" in given and not _is(given["allow_pickle"], False):
            found.append(source.at(call, "allow_pickle"))
    return found


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_is_pickled() -> None:
    found = [one for source in sources(*OWN) for one in pickles(source)]

    assert not found, report(found)


def test_every_way_to_pickle_is_found() -> None:
    text = """
        from pickle import loads
        def load(path):
            torch.load(path)
            np.load(path, allow_pickle=True)
            torch.load(path, weights_only=True)
    """

    assert len(pickles(parse(text))) == 3
