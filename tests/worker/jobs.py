"""Tasks of these tests. Each writes its starts and ends to a file, independently of the store."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import jobkit


def note(path: str, word: str) -> None:
    """Append a line to a file that several processes write."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, f"{word}\n".encode())
    finally:
        os.close(fd)


@jobkit.task
def work(path: str, seconds: float = 0.0) -> str:
    try:
        note(path, f"start {os.getpid()}")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.01)
    except BaseException:
        note(path, "stopped")
        raise
    note(path, "end")
    return "done"


@jobkit.task
def speak(path: str, seconds: float) -> str:
    note(path, f"start {os.getpid()}")
    time.sleep(seconds)
    jobkit.current().save("model.txt", b"weights")
    print("last words", flush=True)
    note(path, "end")
    return "done"


@jobkit.task
async def wait(path: str, seconds: float = 0.0) -> str:
    try:
        note(path, f"start {os.getpid()}")
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note(path, "stopped")
        raise
    note(path, "end")
    return "done"


@jobkit.task(isolation="thread")
def dawdle(path: str, seconds: float = 0.0) -> str:
    note(path, f"start {os.getpid()}")
    end = time.monotonic() + seconds
    while time.monotonic() < end and not jobkit.current().should_stop:
        time.sleep(0.01)
    note(path, "end")
    return "done"


@jobkit.task
def until(path: str, sign: str) -> str:
    """Run until a file appears."""
    note(path, f"start {os.getpid()}")
    while not Path(sign).exists():
        time.sleep(0.01)
    note(path, "end")
    return "done"


@jobkit.task
def one_by_one(path: str, sign: str) -> int:
    """Run until the attempt's file appears; return the number of the attempt."""
    attempt = jobkit.current().attempt
    note(path, f"start {os.getpid()}")
    while not Path(f"{sign}{attempt}").exists():
        time.sleep(0.01)
    note(path, f"end {attempt}")
    return attempt


@jobkit.task
def much(path: str, sign: str) -> str:
    """Run until a file appears; return a result that needs disk space."""
    return until(path, sign) * 25_000


@jobkit.task
def count_up(n: int) -> int:
    return n + 1


@jobkit.task
async def count_up_async(n: int) -> int:
    return n + 1


@jobkit.task
def in_c(path: str) -> int:
    note(path, f"start {os.getpid()}")
    return sum(range(10**12))


@jobkit.task
def stubborn(path: str) -> None:
    """Ignore SIGTERM, with a child process in a new session."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    note(path, f"start {os.getpid()} {child.pid}")
    while True:
        time.sleep(1)


@jobkit.task
def with_company(path: str) -> None:
    """Start a program, and one in a new session, and fork a process."""
    programs = [subprocess.Popen(["sleep", "1000"], start_new_session=is_new) for is_new in (False, True)]
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    forked.start()
    note(path, f"start {os.getpid()} {programs[0].pid} {programs[1].pid} {forked.pid}")
    forked.join()


@jobkit.task
async def block(path: str, seconds: float) -> str:
    """Block the event loop."""
    note(path, f"start {os.getpid()}")
    time.sleep(seconds)  # noqa: ASYNC251  # that is the point
    note(path, "end")
    return "done"


@jobkit.task
async def deaf(path: str) -> None:
    """Swallow every cancellation."""
    note(path, f"start {os.getpid()}")
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            note(path, "swallowed")


@jobkit.task
def surroundings() -> dict[str, Any]:
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            fds[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of the listing itself
            continue
    started_with = Path("/proc/self/environ").read_text()
    return {"pid": os.getpid(), "environ": dict(os.environ), "started_with": started_with, "fds": fds}


@jobkit.task
async def surroundings_of_coroutine() -> dict[str, Any]:
    return surroundings.function()


@jobkit.task
async def talk(size: int) -> bytes:
    print("hello")
    print("to stderr", file=sys.stderr)
    for _ in jobkit.progress(range(3)):
        await asyncio.sleep(0)
    return b"x" * size


@jobkit.task
async def moody(path: str, mood: str = "good") -> str:
    """Sleep, then misbehave as requested."""
    note(path, f"start {os.getpid()}")
    if mood == "sleeps":
        time.sleep(60)  # noqa: ASYNC251  # that is the point
    elif mood == "calculates":  # in C, without the GIL
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)
    elif mood == "hogs":  # in C, with the GIL
        sum(range(10**12))
    elif mood == "falls":
        os._exit(3)
    elif mood == "deaf":
        await deaf.function(path)
    return "done"


@jobkit.task
def chatter(lines: int, is_deadly: bool = False) -> None:
    """Print lines as quickly as possible, then return or die at once."""
    for i in range(lines):
        print(f"line {i}")
    print("RESULT accuracy 0.93")
    if is_deadly:
        os._exit(3)


@jobkit.task
def chatter_slowly(lines: int) -> int:
    """Print a line, log a point and save an artifact in each step."""
    for i in range(lines):
        print(f"line {i}")
        jobkit.log_metrics(i, loss=0.5)
        jobkit.current().save("newest.txt", str(i))
        time.sleep(0.003)
    return lines


@jobkit.task
async def chatter_async(lines: int) -> None:
    chatter.function(lines)


@jobkit.task(isolation="thread")
def chatter_in_thread(lines: int) -> None:
    chatter.function(lines)


@jobkit.task
def everything(path: str, sign: str) -> str:
    """Report, print and save, wait for a file, return the identity of this execution."""
    nonce = f"{os.getpid()}-{time.monotonic_ns()}"
    note(path, f"start {os.getpid()} {nonce}")
    jobkit.current().report(1, 2, "half")
    print("a line")
    jobkit.current().save("kept.txt", "some text")
    while not Path(sign).exists():
        time.sleep(0.01)
    note(path, f"end {nonce}")
    return nonce


@jobkit.task
def occupy(path: str, user: str = "ada", seconds: float = 0.1) -> str:
    """Record the times during which it held its devices, and its user."""
    name = os.environ["JOBKIT_JOB_ID"]
    note(path, f"begin {name} {user} {time.time()} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}")
    time.sleep(seconds)
    note(path, f"end {name} {user} {time.time()}")
    return os.environ.get("JOBKIT_RESOURCES", "")


@jobkit.task
async def pass_by() -> None:
    """Do nothing."""


# -- jobs that wait for jobs -------------------------------------------------------------------------------------------


@jobkit.task
def nest(place: dict[str, str], depth: int) -> int:
    """Submit itself and wait, `depth` times."""
    if depth == 0:
        return 0
    with jobkit.connect(**place) as kit:
        return int(kit.submit(nest, place, depth - 1).result()) + 1


#: Ways to wait for jobs.
WAYS = ("result", "wait", "batch", "as_completed", "jobkit.wait", "dependency", "thread", "executor")


@jobkit.task
def wait_in(place: dict[str, str], way: str) -> int:
    """Wait for three jobs, which return 1, 2 and 3; return the sum."""
    with jobkit.connect(**place) as kit:
        batch = kit.map(count_up, [0, 1, 2])
        if way == "wait":
            assert all(job.wait() for job in batch)
        elif way == "batch":
            assert batch.wait()
        elif way == "as_completed":
            assert len(list(batch.as_completed())) == 3
        elif way == "jobkit.wait":
            assert len(jobkit.wait(batch.jobs)[0]) == 3
        elif way == "dependency":
            return int(kit.submit(sum, batch).result())
        elif way == "executor":
            with kit.executor() as executor:
                return sum(executor.map(count_up.function, [0, 1, 2]))
        elif way == "thread":
            thread = threading.Thread(target=batch.wait)
            thread.start()
            thread.join()
        return sum(int(job.result()) for job in batch)


#: Ways to wait for futures of an executor.
FUTURE_WAYS = ("wait", "as_completed", "asyncio", "callback")


@jobkit.task
def wait_by_futures(place: dict[str, str], way: str) -> int:
    """Wait for three calls of an executor, which return 1, 2 and 3; return the sum."""
    with jobkit.connect(**place) as kit, kit.executor() as executor:
        futures = [executor.submit(count_up.function, n) for n in range(3)]
        if way == "wait":
            assert len(concurrent.futures.wait(futures).done) == 3
        elif way == "as_completed":
            assert len(list(concurrent.futures.as_completed(futures))) == 3
        elif way == "asyncio":

            async def gathered() -> list[int]:
                return await asyncio.gather(*map(asyncio.wrap_future, futures))

            assert sum(asyncio.run(gathered())) == 6
        else:
            ended: SimpleQueue[object] = SimpleQueue()
            for future in futures:
                future.add_done_callback(ended.put)
            for _ in futures:
                ended.get()
        assert all(future.done() for future in futures)
        return sum(future.result() for future in futures)


@jobkit.task
async def await_in(place: dict[str, str], depth: int) -> int:
    """Same as `wait_in` with coroutines."""
    if depth == 0:
        return 0
    kit = await asyncio.to_thread(lambda: jobkit.connect(**place))
    try:
        return int(await (await kit.aio.submit(await_in, place, depth - 1))) + 1
    finally:
        await asyncio.to_thread(kit.close)


@jobkit.task
def wait_for_queue(place: dict[str, str], queue: str, ready: str) -> int:
    """Wait for a job of another queue, once two such jobs run."""
    note(ready, f"start {os.getpid()}")
    while len(Path(ready).read_text().splitlines()) < 2:
        time.sleep(0.01)
    with jobkit.connect(**place) as kit:
        return int(kit.options(queue=queue).submit(count_up, 0).result())


@jobkit.task
def wait_for_a_file(place: dict[str, str], path: str, sign: str) -> str:
    with jobkit.connect(**place) as kit:
        return str(kit.submit(until, path, sign).result())


@jobkit.task
def wait_for_a_failure(place: dict[str, str]) -> str:
    with jobkit.connect(**place) as kit:
        try:
            return str(kit.submit(int, "x").result())
        except jobkit.JobFailed as error:
            return type(error).__name__


@jobkit.task
def wait_too_short(place: dict[str, str], path: str, sign: str) -> str:
    with jobkit.connect(**place) as kit:
        try:
            return str(kit.submit(until, path, sign).result(timeout=0.2))
        except TimeoutError as error:
            return type(error).__name__


@jobkit.task
def wait_late(place: dict[str, str], path: str, sign: str) -> int:
    """Submit a job once a file exists, and wait for it."""
    until.function(path, sign)
    with jobkit.connect(**place) as kit:
        return int(kit.submit(count_up, 0).result())


@jobkit.task
async def loaded() -> list[str]:
    """Return the modules of its process."""
    return sorted(sys.modules)


@jobkit.task
def kill_parent(path: str) -> None:
    """Kill the process that has forked its own."""
    note(path, f"start {os.getpid()}")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@jobkit.task
def kill_worker(path: str) -> None:
    """Kill its worker, of whose zygote its own process comes."""
    note(path, f"start {os.getpid()}")
    stat = Path(f"/proc/{os.getppid()}/stat").read_text()
    os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    time.sleep(60)


def one_step(path: str, state: dict[str, Any], stays_at: int = -1, fails_at: int = -1) -> None:
    """Do a step of a job that keeps checkpoints, and write the next one."""
    step, attempt = state["step"], jobkit.current().attempt
    note(path, f"step {step}")
    if attempt == 1 and step == stays_at:
        time.sleep(600)
    if attempt == 1 and step == fails_at:
        raise RuntimeError("of this attempt")
    state |= {"step": step + 1, "sum": state["sum"] + step}
    with open("steps.txt", "a") as file:
        file.write(f"{step} ")
    jobkit.checkpoint(state, files="steps.txt")


def begin(path: str) -> dict[str, Any]:
    """Go to a folder of this attempt alone, where the files of a checkpoint have to be put."""
    folder = Path(path).with_name(f"attempt {jobkit.current().job_id} {jobkit.current().attempt}")
    folder.mkdir()
    os.chdir(folder)
    return jobkit.resume({"step": 0, "sum": 0})


@jobkit.task
def count(path: str, steps: int, stays_at: int = -1, fails_at: int = -1, pause_s: float = 0.0) -> dict[str, Any]:
    """Add numbers, with a checkpoint after each."""
    state = begin(path)
    for _ in jobkit.progress(range(state["step"], steps)):
        one_step(path, state, stays_at, fails_at)
        time.sleep(pause_s)
    return state | {"file": Path("steps.txt").read_text().strip()}


@jobkit.task
def count_and_grow(path: str) -> int:
    """Take too much memory after two steps of the first attempt."""
    begun = jobkit.resume(0)
    for step in range(begun, 4):
        if step == 2 and not begun:
            held = bytearray(600_000_000)  # until it is stopped
            time.sleep(60)
            del held
        note(path, f"step {step}")
        jobkit.checkpoint(step + 1)
    return 4


@jobkit.task
def furnish(data: bytes, steps: int = 3) -> bytes:
    """Leave something of each kind behind: metrics, checkpoints, a large artifact and a large result."""
    state = jobkit.resume({"step": 0})
    print("furnished from", state["step"])
    for step in range(state["step"], steps):
        jobkit.log_metrics(step=step, loss=1 / (step + 1))
        jobkit.checkpoint({"step": step + 1})
    jobkit.current().save("large.bin", bytes(2_000_000))
    return data * 2


@jobkit.task
def leave_all(data: bytes, result_bytes: int, sign: str = "") -> bytes:
    """Leave files of each kind: checkpoints with a file, an artifact and a whole log of 3 MB; wait for a sign."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        state = jobkit.resume({"step": 0})
        for step in range(state["step"], 2):
            Path("state.bin").write_bytes(data)
            jobkit.checkpoint({"step": step + 1, "data": data}, files=["state.bin"])
            for line in range(30_000):
                print(f"step {step} line {line} {'x' * 30}")
            while sign and step == 0 and not Path(sign).exists():
                time.sleep(0.01)
        jobkit.current().save("data.bin", data)
        return random.Random(1).randbytes(result_bytes)


@jobkit.task
def count_and_clean(path: str, clean_s: float) -> None:
    step = 0
    try:
        while True:
            step += 1
            note(path, f"step {step}")
            jobkit.checkpoint({"step": step})
            time.sleep(0.01)
    finally:
        time.sleep(clean_s)
        note(path, "cleaned")


@jobkit.task
async def count_and_clean_on_loop(path: str, clean_s: float) -> None:
    step = 0
    try:
        while True:
            step += 1
            note(path, f"step {step}")
            jobkit.checkpoint({"step": step})
            await asyncio.sleep(0.01)
    finally:
        await asyncio.sleep(clean_s)
        note(path, "cleaned")


@jobkit.task
def count_beside_deaths(path: str, steps: int, deaths: int, stays_at: int = -1) -> int:
    """Kill the process that forks jobs after each checkpoint of a step, once the checkpoint is known."""
    state = jobkit.resume({"step": 0})
    for step in range(state["step"], steps):
        note(path, f"step {step}")
        if step != stays_at:
            jobkit.checkpoint({"step": step + 1})
            jobkit.current().log("written")
            time.sleep(0.3)
        if jobkit.current().attempt <= deaths:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
    return steps


@jobkit.task(isolation="thread")
def count_in_thread(path: str, steps: int, pause_s: float = 0.0) -> int:
    state = jobkit.resume({"step": 0})
    for step in range(state["step"], steps):
        note(path, f"step {step}")
        jobkit.checkpoint({"step": step + 1})
        time.sleep(pause_s)
    return steps


@jobkit.task
async def count_on_loop(path: str, steps: int, pause_s: float = 0.0) -> int:
    state = jobkit.resume({"step": 0})
    for step in range(state["step"], steps):
        note(path, f"step {step}")
        jobkit.checkpoint({"step": step + 1})
        await asyncio.sleep(pause_s)
    return steps


def _speak_to(end: int, victim: int) -> None:
    """Print a line and log a point in each step from the checkpoint on; then write a checkpoint, and kill the victim in
    the first attempt (0: this process)."""
    for step in range(jobkit.resume(0), end):
        print(f"step {step}")
        jobkit.log_metrics(step, loss=step)
    jobkit.checkpoint(end)
    if jobkit.current().attempt == 1:
        os.kill(victim or os.getpid(), signal.SIGKILL)
        time.sleep(60)


@jobkit.task
def speak_and_die(victim: int) -> None:
    for end in (5, 10):
        _speak_to(end, victim)


@jobkit.task
async def speak_and_die_on_loop(victim: int) -> None:
    speak_and_die.function(victim)


@jobkit.task
def count_politely(path: str) -> str:
    """Write one checkpoint, when it is asked to stop."""
    step = 0
    while not jobkit.current().should_stop:
        note(path, f"step {step}")
        step += 1
        time.sleep(0.02)
    with contextlib.suppress(BaseException):
        jobkit.checkpoint({"step": step})
    return "early"
