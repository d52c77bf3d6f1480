"""How this suite is run."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

from tests.file_by_file import pytest_xdist_make_scheduler

__all__ = ["pytest_xdist_make_scheduler"]

# Files run side by side, and beside servers: threads that wait for each other's turn on a core that others have make
# small matrices many times slower. Read when numpy and torch are loaded, here and in what tests start.
os.environ["OMP_NUM_THREADS"] = "1"
# What a shell runs in the background ignores interrupts, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says more about the machine than about us; a test that hangs is ended by its bound.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
