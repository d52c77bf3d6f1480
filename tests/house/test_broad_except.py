"""A broad `except` swallows bugs: it stands only where a failure is recorded and mapped, or raises on."""

from __future__ import annotations

import ast

from tests.house.source import PRODUCT, Source, called, calls, functions, parse, sources

BROAD = {"BaseException", "Exception"}
# File and function to the reason why nothing narrower will do, and where the failure goes.
ALLOWED = {
    "gateway/admission/changes.py ChangeFeed.poll": "logged, and everything is said again; a dead feed lets keys in",
    "gateway/api/raw.py RawRoute.__call__": "our own bug becomes a logged 500 with a request id",
    "gateway/api/raw.py RawRoute._stream": "our own bug after the first byte becomes a logged error event",
    "gateway/cache/collecting.py Keeping.done": "logged; the answer is not kept, but it was given and paid",
    "gateway/lifecycle/learning.py Lessons.run": "logged, and tried again; else bandits would never learn any more",
    "gateway/lifecycle/trials/book.py TrialBook.watch": "logged, and read again; else trials would never end here",
    "gateway/lifecycle/trials/watching.py TrialWatch.run": "logged, and tried again; else harm would never be stopped",
    "gateway/lifecycle/trials/watching.py TrialWatch.step": "raised once every trial had its turn",
    "gateway/lifecycle/trials/shadows.py Shadows._decided": "logged, and kept with the decision that was not made",
    "gateway/pacing.py Paces.run": "logged, and looked again; else budgets would be spent at a pace of the past",
    "gateway/ledger/writer.py LedgerWriter._run": "logged; the rows in hand go to the spool, the log goes on",
    "gateway/ledger/writer.py LedgerWriter._rows": "one unfit record is counted and put aside, the others are stored",
    "local_runtime/embedders/minilm/exported.py opened": "ONNX Runtime's errors share no root; a new export answers",
    "local_runtime/embedders/model_thread.py _attempt": "recorded as the text's outcome; else callers would hang",
    "local_runtime/decoding/guessing.py Guesses._written": "logged; answers need no guesses, they go on without",
    "local_runtime/engine.py Engine._work": "logged; the sequences in hand end with EngineFailed, the engine lives",
    "gateway/ledger/inserts.py Inserter._insert": "drivers raise anything; sorted into database away or row refused",
}


def broad_handlers(source: Source) -> list[str]:
    """`file function` of every broad handler that does not end by raising."""
    found = set()
    for name, node in functions(source.tree):
        for part in ast.walk(node):
            if isinstance(part, ast.ExceptHandler) and _is_broad(part.type) and not _raises(part):
                found.add((part.lineno, name))
    innermost = dict(sorted(found, key=lambda one: len(one[1])))
    return [f"{source.path} {name}" for name in innermost.values()] + _suppressed(source)


def _suppressed(source: Source) -> list[str]:
    """`contextlib.suppress(Exception)` is a broad handler by another name."""
    return [
        f"{source.path} suppress in line {call.lineno}"
        for call in calls(source.tree)
        if called(call).split(".")[-1] == "suppress" and any(_is_broad(part) for part in call.args)
    ]


def _is_broad(kind: ast.expr | None) -> bool:
    if isinstance(kind, ast.Tuple):
        return any(_is_broad(part) for part in kind.elts)
    return kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD)


def _raises(handler: ast.ExceptHandler) -> bool:
    return isinstance(handler.body[-1], ast.Raise)


def _all() -> list[str]:
    return [one for source in sources(*PRODUCT, "benchmarks") for one in broad_handlers(source)]


def test_broad_handlers_stand_only_where_a_failure_is_recorded_and_mapped() -> None:
    assert [one for one in _all() if one not in ALLOWED] == []


def test_every_allowance_is_still_needed() -> None:
    assert set(ALLOWED) - set(_all()) == set()


def test_every_form_of_broad_handler_is_found() -> None:
    text = """
        def bare():
            try: ...
            except: ...
        class Thing:
            def method(self):
                try: ...
                except (ValueError, Exception): ...
        def quiet():
            with contextlib.suppress(BaseException): ...
        def honest():
            try: ...
            except Exception as error: raise RuntimeError from error
        def narrow():
            try: ...
            except ValueError: ...
    """

    assert broad_handlers(parse(text)) == [
        "gateway/snippet.py bare",
        "gateway/snippet.py Thing.method",
        "gateway/snippet.py suppress in line 10",
    ]
