"""How xdist hands out test files here: as `loadfile` does, but a test that ends its process is not run again.

xdist itself gives such a test to the next process, until it has no more of them; and it hands out files of which
nothing is left, after which a process waits for ever.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]


class FileByFile(LoadFileScheduling):  # type: ignore[misc]
    """A file is run by one process; the rest of a process that has died goes to others."""

    def remove_node(self, node: WorkerController) -> str | None:
        """The test in which the process died, None where it had done all."""
        files = {file: _left(tests) for file, tests in self.assigned_work.pop(node).items()}
        files = {file: tests for file, tests in files.items() if tests}
        if not files:
            return None
        file, tests = next(iter(files.items()))
        died_in = next(iter(tests))
        del tests[died_in]
        self.workqueue.update(files if tests else {name: left for name, left in files.items() if name != file})
        for other in self.assigned_work:
            self._reschedule(other)
        return died_in

    def _reschedule(self, node: WorkerController) -> None:
        """Until it has three tests or nothing is left: a process begins a test only when it knows the next one."""
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) <= 2:
            super()._reschedule(node)


def _left(tests: dict[str, bool]) -> dict[str, bool]:
    return {name: done for name, done in tests.items() if not done}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileByFile | None:
    """For `--dist loadfile` only."""
    return FileByFile(config, log) if config.getoption("dist") == "loadfile" else None
