"""Marks of processes: no other process has the same, and the end of one is known."""

from __future__ import annotations

import os
import subprocess
import sys

from jobkit.system import processes
from tests.support import wait_until


def test_the_end_of_a_process_is_known_before_it_is_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    mark = processes.mark(process.pid)
    assert not processes.has_died(mark)

    process.kill()

    wait_until(lambda: processes.has_died(mark))
    process.wait()
    assert processes.has_died(mark)
    assert processes.mark(process.pid) == ""


def test_processes_that_cannot_be_seen_from_here_count_as_alive_and_those_of_an_earlier_boot_as_dead() -> None:
    boot, namespace, pid, start = processes.mark(os.getpid()).split()

    assert not processes.has_died(f"{boot} 1{namespace} {pid} {start}")
    assert not processes.has_died("")
    assert processes.has_died(f"{boot} {namespace} {pid} 1{start}")
    assert processes.has_died(f"earlier {namespace} {pid} {start}")
    for damaged in (f"{boot} {namespace} x {start}", f"earlier {namespace} {'9' * 5000} {start}", "a b c d"):
        assert not processes.has_died(damaged)
