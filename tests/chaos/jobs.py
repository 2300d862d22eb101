"""Tasks of a chaos run. Each execution writes its start and end to the record."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import time

import psutil

import jobkit
from tests.chaos import record


class Execution:
    """Record of one execution: its start and its end."""

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self.nonce = secrets.token_hex(8)
        current = jobkit.current()
        record.append(path, word="start", name=name, job=current.job_id, attempt=current.attempt, nonce=self.nonce)

    def end(self, word: str) -> str:
        record.append(self._path, word=word, nonce=self.nonce)
        return self.nonce


@jobkit.task
def plain(path: str, name: str, seconds: float) -> str:
    """Run as a plain function in a child process."""
    run = Execution(path, name)
    try:
        deadline = time.monotonic() + seconds
        for step in jobkit.progress(range(20)):
            print("step", step)
            while time.monotonic() < deadline - seconds * (19 - step) / 20:
                time.sleep(0.005)
    except BaseException:
        run.end("stopped")
        raise
    return run.end("returned")


@jobkit.task
async def light(path: str, name: str, seconds: float) -> str:
    """Run as a coroutine in the worker."""
    run = Execution(path, name)
    try:
        for step in range(10):
            jobkit.current().report(step, 10)
            await asyncio.sleep(seconds / 10)
    except asyncio.CancelledError:
        run.end("stopped")
        raise
    return run.end("returned")


@jobkit.task
def flaky(path: str, name: str, times: int) -> str:
    """Raise in the first executions."""
    run = Execution(path, name)
    raised = sum(each.end == "raised" for each in record.runs(_path(path)).get(name, ()))
    if raised < times:
        run.end("raised")
        raise ValueError(f"for the {raised + 1}. time")
    return run.end("returned")


@jobkit.task
def chatty(path: str, name: str, crashes: bool) -> str:
    """Print so many lines so fast that not all are kept; the last one tells the result."""
    run = Execution(path, name)
    for n in range(3000):
        print("line", n)
    print("RESULT", run.nonce, flush=True)
    if crashes:
        os.kill(os.getpid(), signal.SIGSEGV)
    return run.end("returned")


@jobkit.task
async def follow(path: str, name: str, value: str) -> str:
    """Run after another job, with its result."""
    run = Execution(path, name)
    assert len(value) == len(run.nonce)
    return run.end("returned")


@jobkit.task
def large(path: str, name: str) -> str:
    """Return more than Redis keeps."""
    return Execution(path, name).end("returned") * 75_000


@jobkit.task
def programs(path: str, name: str, seconds: float) -> str:
    """Start a program that outlives the job, unless jobkit ends it. No earlier one may run beside it."""
    run = Execution(path, name)
    living = [each.attempt for each in record.runs(_path(path))[name] if each.has_program]
    assert not living, f"programs of attempts {living} run beside this one"
    program = subprocess.Popen(["sleep", record.PROGRAM_S], start_new_session=True)
    record.append(path, word="program", nonce=run.nonce, program=program.pid)
    time.sleep(seconds)
    return run.end("returned")


#: Steps of a job with checkpoints.
STEPS = 12


@jobkit.task
def stepwise(path: str, name: str, seconds: float) -> dict[str, object]:
    """Add numbers, with a checkpoint after each step."""
    run = Execution(path, name)
    state = jobkit.resume({"step": 0, "sum": 0})
    for step in jobkit.progress(range(state["step"], STEPS)):
        record.append(path, word="step", nonce=run.nonce, step=step)
        time.sleep(seconds / STEPS)
        state = {"step": step + 1, "sum": state["sum"] + step}
        if jobkit.checkpoint(state):
            record.append(path, word="saved", nonce=run.nonce, step=step + 1)
    return {"nonce": run.end("returned"), "sum": state["sum"]}


#: Questions of a job that asks, and who answers them.
QUESTIONS, PERSON = 3, "ada"


@jobkit.task
def asking(path: str, name: str, parks: bool) -> dict[str, object]:
    """Ask people, without a slot if it `parks`."""
    run = Execution(path, name)
    state: dict[str, list[str]] = jobkit.resume({"answers": []})
    for n in range(len(state["answers"]), QUESTIONS):
        if parks:
            jobkit.checkpoint(state)
        state = {"answers": [*state["answers"], jobkit.ask(str, f"Question {n}?")]}
    return {"nonce": run.end("returned"), **state}


def reply(question: str) -> str:
    """Return the answer of people to a question."""
    return question.upper()


class Harmful:
    """A result whose preview harms the process that makes it."""

    def __init__(self, nonce: str, how: str) -> None:
        self.nonce, self._how = nonce, how

    def _repr_html_(self) -> str:
        if self._how == "exit":
            os._exit(3)
        if self._how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        while self._how == "hang":
            time.sleep(1)
        raise SystemExit


@jobkit.task
def harmful(path: str, name: str, how: str) -> Harmful:
    """Return a result whose preview harms."""
    return Harmful(Execution(path, name).end("returned"), how)


@jobkit.task
async def strange_end(path: str, name: str, how: str) -> str:
    """Raise what is no `Exception`."""
    Execution(path, name).end("raised")
    raise {each.__name__: each for each in STRANGE}[how]


#: What `strange_end` raises.
STRANGE = (GeneratorExit, KeyboardInterrupt, BaseException)


@jobkit.task
def search(path: str, name: str) -> str:
    """Run a study of five trials; return the nonce if it has exactly these, and none is open."""
    run = Execution(path, name)
    try:
        with jobkit.connect() as kit:
            study = kit.study(valley, trials=5, parallel=2, space={"x": (0.0, 1.0)}, id=f"study-{name}")
            study.wait()
            study.batch.wait()
            states = [*study.trials()["state"]]
            info = kit.batches.info(study.id)
            is_whole = states == 5 * ["complete"] and info.counts == {"succeeded": 5} and info.made == 5
    except BaseException:
        run.end("stopped")
        raise
    nonce = run.end("returned")
    return nonce if is_whole else f"{study}: {states}, {info.counts}"


@jobkit.task
def valley(x: float) -> float:
    """Take a moment: the objective of `search`."""
    time.sleep(0.3)
    return (x - 0.3) ** 2


@jobkit.task
def poison(path: str, name: str) -> None:
    """Kill the worker."""
    Execution(path, name)
    _kill_worker()


@jobkit.task
async def poison_async(path: str, name: str) -> None:
    """Kill the worker from a coroutine."""
    Execution(path, name)
    _kill_worker()


@jobkit.task
async def poison_loop(path: str, name: str) -> None:
    """Crash the process in which coroutines run."""
    Execution(path, name)
    os.kill(os.getpid(), signal.SIGSEGV)


@jobkit.task
def poison_zygote(path: str, name: str) -> None:
    """Kill the process that forks jobs."""
    Execution(path, name)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)  # until we are killed with it


@jobkit.task
def crash(path: str, name: str) -> None:
    """End the own process."""
    Execution(path, name)
    os.kill(os.getpid(), signal.SIGSEGV)


def _kill_worker() -> None:
    """Kill the worker, from its loop or from a child of its zygote."""
    here = psutil.Process()
    next(process for process in (here, *here.parents()) if "worker" in process.cmdline()).kill()
    time.sleep(60)  # until we are killed with it


def _path(path: str):  # type: ignore[no-untyped-def]
    from pathlib import Path

    return Path(path)
