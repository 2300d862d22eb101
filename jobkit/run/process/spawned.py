"""`python -m jobkit.run.process.spawned ARGUMENTS`: a job's process that is no fork, for a system on which forks break.

A new Python takes long to start. So it imports, before its job comes, what that will need: the task modules, and the
libraries that recent jobs have imported.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import mmap
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from jobkit.model import JobkitError
from jobkit.run.inside.tracebacks import keep_locals, keeps_locals
from jobkit.run.process import child, last_words
from jobkit.system import memory
from jobkit.tasks.registry import registry


def preload(modules: Sequence[str]) -> str:
    """Import the task modules; return what is wrong with the first that fails, or ""."""
    try:
        registry.load(modules)
    except JobkitError as error:
        return str(error)
    return ""


def start(
    fds: Sequence[int], modules: Sequence[str], libraries: Sequence[str], mark: tuple[str, str]
) -> tuple[int, mmap.mmap]:
    """Start a process from its zygote; return its id and the memory that both share. Raises OSError.

    Args:
        fds: the control channel, and what becomes standard output and error.
        modules: task modules to import. libraries: the same, if they are there.
        mark: name and value of a variable of its environment.
    """
    shared, fd = memory.named(last_words.SHARED)
    try:
        arguments = msgspec.msgpack.encode([os.getpid(), [*fds, fd], modules, libraries, keeps_locals()])
        # With the options of the zygote's own command, up to `-m`.
        command = [sys.executable, *sys.orig_argv[1:-3], __name__, arguments.hex()]
        environ = os.environ | dict([mark])
        pid = os.posix_spawn(sys.executable, command, environ, setpgroup=0)
    finally:
        os.close(fd)
    return pid, shared


def main(argument: str) -> NoReturn:
    zygote, fds, modules, libraries, has_locals = msgspec.msgpack.decode(bytes.fromhex(argument))
    faulthandler.enable(file=2, all_threads=False)  # as in the zygote
    keep_locals(has_locals)
    shared = mmap.mmap(fds.pop(), last_words.SHARED)
    if problem := preload(modules):
        os.write(fds[2], f"{problem}\n".encode("utf-8", "backslashreplace"))
        os._exit(1)
    for name in libraries:
        with contextlib.suppress(BaseException):  # the job that needs it will say what is wrong
            importlib.import_module(name)
    child.main(zygote, tuple(fds), shared)


if __name__ == "__main__":
    main(sys.argv.pop())
