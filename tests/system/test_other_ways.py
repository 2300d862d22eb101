"""The ways of systems without what only Linux has, on this one: links, deaths, tables of processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobkit.run.process.zygote_link import ZygoteLink
from jobkit.system import link, proc, processes, psutil_table
from tests.support import ROOT, environment, is_alive, wait_until

needs_proc = pytest.mark.skipif(not processes.HAS_PROC, reason="reads /proc")


@pytest.fixture(params=["packets", "stream"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both ends of a link: the first does not block, the second does."""
    if request.param == "stream":
        real = socket.socketpair

        def socketpair(family: int = socket.AF_UNIX, kind: int = socket.SOCK_STREAM) -> Any:
            if kind == socket.SOCK_SEQPACKET:
                raise OSError(errno.EPROTONOSUPPORT, "as on macOS")
            return real(family, kind)

        monkeypatch.setattr(socket, "socketpair", socketpair)
    ours, theirs = link.pair()
    yield ours, link.Link(theirs)
    ours.close()
    theirs.close()


def test_messages_and_their_descriptors_stay_together(ends: tuple[link.Link, link.Link]) -> None:
    ours, theirs = ends
    pipe = os.pipe()
    ours.send(b"first")
    ours.send(b"second", pipe)
    ours.send(b"x" * 60_000)

    assert theirs.receive(3) == (b"first", [])
    message, fds = theirs.receive(3)
    assert (message, [os.fstat(fd).st_ino for fd in fds]) == (b"second", [os.fstat(fd).st_ino for fd in pipe])
    assert theirs.receive(3) == (b"x" * 60_000, [])
    for fd in (*pipe, *fds):
        os.close(fd)
    with pytest.raises(BlockingIOError):
        ours.receive()
    theirs.send(b"answer")
    assert ours.receive() == (b"answer", [])
    theirs.shutdown()
    assert ours.receive() == (b"", [])


def test_a_full_link_loses_and_doubles_nothing(ends: tuple[link.Link, link.Link]) -> None:
    ours, theirs = ends
    sent, received = 0, 0

    def fill() -> None:
        nonlocal sent
        while True:
            ours.send(b"%d " % sent + b"x" * 10_000)
            sent += 1

    for _ in range(5):
        with pytest.raises(BlockingIOError):
            fill()
        while received < sent - 1 or (received < sent and not ours.is_behind):
            assert theirs.receive()[0] == b"%d " % received + b"x" * 10_000
            received += 1
    if ours.is_behind:
        ours.send(b"")
        assert theirs.receive()[0].startswith(b"%d " % received)


def ended() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["true"])


async def test_the_rest_of_the_last_message_for_a_zygote_is_sent(ends: tuple[link.Link, link.Link]) -> None:
    ours, theirs = ends
    ours._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    zygote = ZygoteLink(ended(), ours, "")
    for _ in range(3):
        zygote.tell({"op": "fork", "text": "x" * 60_000})

    theirs._socket.setblocking(False)
    received = 0
    while received < 3:
        with contextlib.suppress(BlockingIOError):
            theirs.receive()
            received += 1
        await asyncio.sleep(0)
    zygote._first.cancel()
    await zygote.close()


GUARD = """
import os, signal, subprocess, sys, time
from jobkit.system import death
death._prctl = None
guard = death.Guard()
for number in (signal.SIGTERM, signal.SIGKILL):
    group = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
    guard.add(-group.pid, number)
    print(group.pid, flush=True)
ended = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
guard.add(-ended.pid, signal.SIGKILL)
guard.remove(-ended.pid)
print(ended.pid, flush=True)
if sys.argv[1] == "killed":
    os.kill(guard._shell.pid, signal.SIGKILL)
    guard._shell.wait()
    guard.add(-group.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("guard", ["untouched", "killed"])
def test_a_guard_ends_the_processes_of_a_killed_parent_and_no_others(guard: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GUARD, guard], stdout=subprocess.PIPE, text=True, check=False, env=environment()
    )
    first, second, other = map(int, done.stdout.split())

    wait_until(lambda: not is_alive(first) and not is_alive(second))

    assert is_alive(other)
    os.kill(other, signal.SIGKILL)
    wait_until(lambda: not is_alive(other))


FORKS = """
import os, signal, sys, time
from jobkit.system import death
if sys.argv[1] == "pipe":
    death._prctl = None
death.end_forks_with(signal.SIGTERM, lambda: True)
pid = os.fork()
if pid:
    print(pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(1000)
"""


FORKS_OF_FORKS = """
import os, signal
from jobkit.system import death
death._prctl = None
death.end_forks_with(signal.SIGTERM, lambda: False)
if os.fork() == 0:
    fds = [os.open(os.devnull, os.O_RDONLY) for _ in range(5)]
    if os.fork() == 0:
        for fd in fds:
            os.fstat(fd)
        print("all are open", flush=True)
        os._exit(0)
    os.wait()
    os._exit(0)
os.wait()
"""


def test_a_fork_of_a_fork_keeps_its_files() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS_OF_FORKS], capture_output=True, text=True, check=False, env=environment()
    )

    assert (done.stdout, done.stderr) == ("all are open\n", "")


@pytest.mark.parametrize("way", ["kernel", "pipe"])
def test_forks_end_with_the_process_that_they_come_from(way: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKS, way], stdout=subprocess.PIPE, text=True, env=environment()
    ) as done:
        assert done.stdout is not None
        pid = int(done.stdout.readline())

        wait_until(lambda: not is_alive(pid))


@needs_proc
def test_both_tables_of_processes_agree() -> None:
    code = "import subprocess, time; subprocess.Popen(['sleep', '100'], start_new_session=True); print(1, flush=True)"
    code += "; time.sleep(100)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment(JOBKIT_X="1")
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            own, pid = os.getpid(), process.pid
            below = proc.descendants(own)
            assert pid in below
            assert len(proc.descendants(pid)) == 1
            for table in (None, psutil_table.parents()):
                assert sorted(psutil_table.descendants(own, table)) == sorted(below)
            assert psutil_table.children(pid) == proc.children(pid)
            assert b"JOBKIT_X=1" in psutil_table.environ(pid)
            assert pid in dict(psutil_table.mine())
            assert own not in dict(psutil_table.mine())
            assert psutil_table.rss_bytes(pid) > 1_000_000
            starts = {psutil_table.start(each) for each in (own, pid, *proc.descendants(pid))}
            assert len(starts) == 3
            assert None not in starts
            assert psutil_table.start(pid) in starts
        finally:
            processes.kill([process.pid])
    assert psutil_table.start(process.pid) is None
    assert psutil_table.descendants(process.pid) == []


ONE_JOB = """
import asyncio, os, sys
from jobkit.run.process.runner import ProcessRunner
from tests.run.conftest import Heard, assign
async def main():
    runner = ProcessRunner()
    await runner.start()
    try:
        for n in range(2):
            outcome = await runner.run(assign(lambda: (os.getppid(), "msgspec" in __import__("sys").modules)), Heard())
            print(outcome.summary, runner.pid, outcome.reason)
    finally:
        await runner.close()
assert not hasattr(os, "pipe2")
asyncio.run(main())
"""


def test_a_job_runs_without_all_that_macos_lacks(tmp_path: Path) -> None:
    """The nightly run repeats all tests of processes so: `make portable`."""
    path = os.pathsep.join([str(ROOT / "tests" / "portable"), str(ROOT)])

    done = subprocess.run(
        [sys.executable, "-c", ONE_JOB],
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), "PYTHONPATH": path},
    )

    assert done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1:2] for line in lines] == [["True)"]] * 2, done.stdout
    assert all(line[0] == f"({line[2]}," for line in lines), "its parent is the zygote"
