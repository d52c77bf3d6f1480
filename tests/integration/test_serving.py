"""What the tests start ends with them, and nobody waits for a pipe that a process left behind still holds."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from tests.serving import ended


def test_the_workers_of_a_killed_supervisor_are_ended_and_their_pipe_is_not_waited_for() -> None:
    words = ["sh", "-c", "sleep 600 & echo $!; exec sleep 600"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    reader = threading.Thread(target=process.stdout.read, daemon=True)
    reader.start()
    process.kill()
    process.wait(10)

    ended(process, reader)

    assert not reader.is_alive()
    assert process.stdout.closed
    assert not Path(f"/proc/{worker}/cmdline").exists() or Path(f"/proc/{worker}/cmdline").read_bytes() == b""
