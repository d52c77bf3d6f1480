"""Dry runs beside a gateway: each in a process of its own, so that no request waits for one."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from typing import Final

from gateway.errors import Conflict
from gateway.lifecycle.dry_run.store import Asked, Busy, ReportStore

log = logging.getLogger(__name__)
LONGEST_S: Final = 3600.0
GRACE_S: Final = 5.0
_TAIL: Final = 1000


class DryRuns:
    """Starts the command `fingerpost policy dry-run --report ID`, which writes what it finds by itself."""

    def __init__(self, store: ReportStore) -> None:
        self.store = store
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, policy: str, body: str, version_id: int | None, asked: Asked, *, actor: str) -> str:
        """The report's id; `Conflict` while another is running."""
        try:
            report_id = await self.store.begin(policy, body, version_id, asked, actor=actor)
        except Busy as error:
            raise Conflict(f"{str(error)[0].upper()}{str(error)[1:]}.") from error
        task = asyncio.create_task(self._run(report_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return report_id

    async def close(self) -> None:
        """End what is running; it then counts as failed."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, report_id: str) -> None:
        command = (sys.executable, "-m", "gateway.cli.main", "policy", "dry-run", "--report", report_id)
        error = "it did not end within an hour"
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_S):
                    _, told = await process.communicate()
                    error = told.decode(errors="replace").strip()[-_TAIL:]
            if process.returncode:
                log.warning("dry run %s failed: %s", report_id, error)
        except asyncio.CancelledError:
            error = "the gateway stopped before it was done: start it again"
            raise
        finally:
            await self._ended(process, report_id, error)

    async def _ended(self, process: asyncio.subprocess.Process, report_id: str, error: str) -> None:
        """What did not finish by itself is said to have failed; nothing happens to what did."""
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(GRACE_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        with suppress(OSError):
            await self.store.fail(report_id, error or "it ended without saying why")
