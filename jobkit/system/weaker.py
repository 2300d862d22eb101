"""The promises that this system does not let jobkit keep in full. The table in docs/reliability.md has the same."""

from __future__ import annotations

from collections.abc import Iterator

from jobkit.system import death, memory, own, processes


def weaker() -> Iterator[str]:
    """Yield what is weaker here than on Linux, each as a sentence without its full stop."""
    if not death.IS_BY_KERNEL:
        yield "a program that leaves its job's session may outlive the job"
    if not processes.HAS_PROC:
        yield "memory that processes of a job share counts for each of them"
    if memory.counter_file() is None:
        yield "that memory ran out is likely, not certain, when a job's process is killed"
    if not own.FORK_IS_SAFE:
        yield "a job that finds no process waiting starts a new Python"
