"""Every way out of user code ends the attempt with a true outcome, wherever it runs; a table."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobkit.codec import decode
from jobkit.model import ErrorKind
from jobkit.run.attempt import Assignment, Outcome
from jobkit.run.ended import succeeded
from jobkit.run.process.runner import ProcessRunner
from jobkit.run.shared import AsyncRunner, ThreadRunner, run_here
from tests.support import PORTABLE, until

from .conftest import Heard, assign

Run = Callable[[Any], Awaitable[Outcome]]


class Places:
    """Runs a function at each place; a fresh coroutine function of it at those for coroutines."""

    def __init__(self) -> None:
        self.processes, self.loop, self.threads = ProcessRunner(), AsyncRunner(), ThreadRunner()

    async def run(self, place: str, function: Any, *args: Any, **options: Any) -> Outcome:
        if place.endswith("coroutine"):
            function = _coroutine(function)
        assignment, heard = assign(function, *args, **options), Heard()
        if place.startswith("inline"):
            return await asyncio.to_thread(run_here, assignment, heard)
        runner = {"child": self.processes, "loop": self.loop, "thread": self.threads}[place.partition(" ")[0]]
        # As `RunningJobs` does: each attempt in a separate task, which an exception must never leave.
        return await asyncio.wait_for(asyncio.create_task(_run(runner, assignment, heard)), 30)


async def _run(runner: Any, assignment: Assignment, heard: Heard) -> Outcome:
    return await runner.run(assignment, heard)


def _coroutine(function: Any) -> Any:
    async def later(*args: Any) -> Any:
        import asyncio

        await asyncio.sleep(0)
        value = function(*args)
        return await value if inspect.iscoroutinefunction(function) else value

    return later


@pytest.fixture
async def places() -> AsyncIterator[Places]:
    places = Places()
    for runner in (places.processes, places.loop, places.threads):
        await runner.start()
    yield places
    for runner in (places.processes, places.loop, places.threads):
        await runner.close()


@pytest.fixture
def short_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("ended", "shared", "process.process_attempt"):
        monkeypatch.setattr(f"jobkit.run.{module}.STAGES_LIMIT_S", 0.5)


def exits() -> dict[str, tuple[Any, str, str]]:
    """Return what is raised by name, with the type and a part of the message of the outcome."""

    class Own(BaseException):
        pass

    class NoRepr:
        def __repr__(self) -> str:
            raise SystemExit

    class ExitsInStr(Exception):
        def __str__(self) -> str:
            raise SystemExit(4)

    class EndsInStr(Exception):
        def __str__(self) -> str:
            raise GeneratorExit

    class EndsInReduce(Exception):
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    class Meta(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise SystemExit

        @property
        def __module__(cls) -> str:  # type: ignore[override]
            raise SystemExit

    class OddClass(Exception, metaclass=Meta):
        pass

    class OddCause(Exception):
        @property
        def __cause__(self) -> Any:  # type: ignore[override]
            raise SystemExit

    def chain() -> BaseException:
        error: BaseException = ValueError("the last")
        for _ in range(5_000):
            error, error.__cause__ = ValueError("the last"), error
        return error

    def circle() -> BaseException:
        one, two = ValueError("one"), ValueError("two")
        one.__cause__, two.__cause__ = two, one
        return one

    def groups() -> BaseException:
        group: BaseException = SystemExit(1)
        for _ in range(2_000):
            group = BaseExceptionGroup("deep", [group])
        return group

    return {
        "own": (Own("words"), "Own", "words"),
        "generator exit": (GeneratorExit("words"), "GeneratorExit", "words"),
        "interrupt": (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
        "exit": (SystemExit(), "SystemExit", "the task called sys.exit()"),
        "exit with text": (SystemExit("no"), "SystemExit", "the task called sys.exit('no')"),
        "exit with status": (SystemExit(3), "SystemExit", "the task called sys.exit(3)"),
        "exit without repr": (SystemExit(NoRepr()), "SystemExit", "the task called sys.exit(<NoRepr object>)"),
        "cancelled": (asyncio.CancelledError("words"), "CancelledError", "words"),
        "stop": (StopAsyncIteration("words"), "StopAsyncIteration", "words"),
        "group": (BaseExceptionGroup("both", [SystemExit(1), GeneratorExit()]), "BaseExceptionGroup", "both"),
        "deep group": (groups(), "BaseExceptionGroup", "deep"),
        "exits in str": (ExitsInStr(), "ExitsInStr", "its message raised an error itself"),
        "ends in str": (EndsInStr(), "EndsInStr", "its message raised an error itself"),
        "ends in reduce": (EndsInReduce("words"), "EndsInReduce", "words"),
        "odd class": (OddClass("words"), "OddClass", "words"),
        "odd cause": (OddCause("words"), "OddCause", ""),
        "chain": (chain, "ValueError", "the last"),
        "circle": (circle(), "ValueError", "one"),
    }


COROUTINES = ("child coroutine", "loop coroutine", "thread coroutine", "inline coroutine")
PLACES = ("child", "loop", "thread", "inline", *COROUTINES)


@pytest.mark.parametrize("place", PLACES)
async def test_whatever_is_raised_is_the_error(places: Places, place: str) -> None:
    def leave(name: str) -> None:
        raised = exits()[name][0]
        raise raised if isinstance(raised, BaseException) else raised()

    for name, (_, kind, words) in exits().items():
        outcome = await places.run(place, leave, name)
        if name == "interrupt" and place.startswith("inline"):
            assert outcome.outcome == "cancelled", name
            continue
        assert outcome.outcome == "failed", (name, outcome)
        assert outcome.error is not None
        assert (outcome.error.type, words in outcome.error.message) == (kind, True), (name, outcome.error)
        is_exit = kind == "SystemExit"
        assert outcome.error.kind is (ErrorKind.CRASH if is_exit else ErrorKind.EXCEPTION)


@pytest.mark.parametrize("place", PLACES)
async def test_a_stop_iteration_is_the_error(places: Places, place: str) -> None:
    def leave() -> None:
        raise StopIteration("words")

    outcome = await places.run(place, leave)

    assert outcome.error is not None
    assert outcome.error.type == ("RuntimeError" if place.endswith("coroutine") else "StopIteration")


@pytest.mark.parametrize("place", COROUTINES)
@pytest.mark.parametrize("awaits", [True, False])
async def test_a_coroutine_that_cancels_its_own_task_ends(places: Places, place: str, awaits: bool) -> None:
    async def leave(awaits: bool) -> int:
        import asyncio

        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if awaits:
            await asyncio.sleep(0)
        return 5

    outcome = await places.run(place, leave, awaits)

    if outcome.error is not None:  # of the task itself, as `asyncio.run` has it
        assert outcome.error.type == "CancelledError"
    else:
        assert (awaits, outcome.outcome, outcome.summary) == (False, "succeeded", "5")


def values() -> dict[str, Any]:
    class Reduces:
        def __init__(self, kind: type[BaseException]) -> None:
            self.kind = kind

        def __reduce__(self) -> Any:
            raise self.kind

    class Shows:
        def __init__(self, kind: type[BaseException]) -> None:
            self.kind = kind

        def _repr_html_(self) -> str:
            raise self.kind

        def __repr__(self) -> str:
            raise self.kind

    class Odd:
        def _repr_html_(self) -> str:
            return "\ud800"

        @property
        def __class__(self) -> Any:  # type: ignore[override]
            raise SystemExit

    return {"reduces": Reduces, "shows": Shows, "odd": lambda kind: Odd()}


@pytest.mark.parametrize("place", PLACES)
async def test_a_value_whose_code_leaves_is_a_success(places: Places, place: str) -> None:
    def give(name: str, kind: type[BaseException]) -> Any:
        return values()[name](kind)

    for kind in (SystemExit, GeneratorExit, KeyboardInterrupt, ValueError):
        for name in ("reduces", "shows", "odd"):
            outcome = await places.run(place, give, name, kind)
            if place.startswith("inline") and (name, kind) == ("reduces", KeyboardInterrupt):
                assert outcome.outcome == "cancelled"
                continue
            assert outcome.outcome == "succeeded", (name, kind, outcome)
            assert outcome.preview is not None
            assert ("unavailable" in outcome.preview) == (not outcome.body) == (name != "shows"), (name, kind)


@pytest.mark.parametrize("place", ["child", "child coroutine"])
@pytest.mark.parametrize("way", ["exit 0", "exit 3", "exec", "kill"])
async def test_a_process_that_ends_is_a_crash(places: Places, place: str, way: str) -> None:
    def leave(way: str) -> None:
        if way == "exec":
            os.execv("/bin/true", ["true"])
        if way == "kill":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(100)
        os._exit(int(way[-1]))

    outcome = await places.run(place, leave, way)

    assert outcome.error is not None
    assert outcome.error.kind is ErrorKind.CRASH
    assert outcome.error.type == {"exit 3": "exit status 3", "kill": "SIGTERM"}.get(way, "exit status 0")
    assert outcome.error.type in outcome.error.message


@pytest.mark.parametrize("place", ["child", "child coroutine"])
async def test_closed_descriptors_are_named_and_files_in_their_place_are_spared(
    places: Places, place: str, tmp_path: Path
) -> None:
    def close(first: int, last: int, path: Path | None) -> int:
        os.closerange(first, last)
        if path is not None:
            for _ in range(4):
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return 5

    assert (await places.run(place, close, 0, 3, None)).summary == "5"
    file = tmp_path / "file"
    for ends in ((3, 4), (0, 1000)):
        for path in (None, file):
            outcome = await places.run(place, close, *ends, path)
            assert outcome.error is not None
            assert "closed descriptor 3" in outcome.error.message
    assert file.read_bytes() == b""


@pytest.mark.parametrize("place", ["child", "thread"])
async def test_a_thread_that_outlives_a_function_does_not_hold_it(places: Places, place: str) -> None:
    def leave() -> int:
        import threading
        import time

        threading.Thread(target=time.sleep, args=(0.3,)).start()
        return 5

    assert (await places.run(place, leave)).summary == "5"
    for thread in threading.enumerate():
        if thread.name.startswith("Thread-"):
            thread.join()


@pytest.mark.parametrize("place", ["child", "thread"])
@pytest.mark.usefixtures("short_stages")
async def test_a_thread_that_outlives_a_coroutine_holds_it_for_a_bounded_time(places: Places, place: str) -> None:
    async def leave() -> int:
        import asyncio
        import time

        asyncio.get_running_loop().run_in_executor(None, time.sleep, 3)
        return 5

    outcome = await asyncio.wait_for(places.run(place, leave), 2.5)

    assert (outcome.outcome, outcome.summary) == ("succeeded", "5")


# -- what follows the end ----------------------------------------------------------------------------------------------


def destroyers() -> dict[str, Callable[[], Any]]:
    def hang() -> None:
        import time

        while True:
            time.sleep(0.01)

    return {
        "exits": lambda: os._exit(0),
        "crashes": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "hangs": hang,
        **({} if PORTABLE else {"takes all memory": lambda: bytearray(3 << 30)}),  # without limits of memory it has it
        "closes": lambda: os.closerange(0, 1000),
    }


def shown_by(way: str) -> Any:
    class Figure:
        def _repr_html_(self) -> str:
            destroyers()[way]()
            return "x"

        def __repr__(self) -> str:
            return "a figure"

    return Figure()


@pytest.mark.usefixtures("short_stages")
@pytest.mark.parametrize("way", destroyers())
async def test_a_preview_cannot_destroy_its_result(places: Places, way: str) -> None:
    outcome = await places.run("child", lambda: shown_by(way))

    assert (outcome.outcome, bool(outcome.body)) == ("succeeded", True), outcome
    assert outcome.preview is not None
    assert outcome.preview["type"] == "Figure"
    if way == "takes all memory":
        assert outcome.preview["text"] == "a figure"
    else:
        assert outcome.preview["text"].startswith("<Figure object> (no preview: ")
    assert (await places.run("child", lambda: 5)).summary == "5"


@pytest.mark.usefixtures("short_stages")
@pytest.mark.parametrize("way", ["exits", "crashes", "hangs"])
async def test_the_code_of_an_exception_cannot_destroy_what_is_known_of_it(places: Places, way: str) -> None:
    def leave(way: str, method: str) -> None:
        def act(self: Any) -> Any:
            destroyers()[way]()

        raise type("Own", (ValueError,), {method: act})("words")

    for method, words in (("__str__", "its message could not be read"), ("__reduce__", "words")):
        outcome = await places.run("child", leave, way, method)
        assert outcome.error is not None, outcome
        assert (outcome.error.type, words in outcome.error.message) == ("Own", True), outcome.error
        assert outcome.error_types[:2] == ("tests.run.test_ways_out.Own", "ValueError")


@pytest.mark.usefixtures("short_stages")
@pytest.mark.parametrize("place", ["loop coroutine", "thread"])
async def test_a_shared_process_waits_for_a_preview_for_a_bounded_time(places: Places, place: str) -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.01)

    turning = asyncio.create_task(turn())
    outcome = await places.run(place, lambda: shown_by("hangs"))
    turning.cancel()

    assert outcome.preview is not None
    assert "it took longer than" in outcome.preview["text"]
    assert turns > 10


@pytest.mark.usefixtures("short_stages")
async def test_a_stop_after_the_end_changes_nothing(places: Places, heard: Heard, tmp_path: Path) -> None:
    def give(path: Path) -> Any:
        class Figure:
            def _repr_html_(self) -> str:
                path.touch()
                destroyers()["hangs"]()
                return ""

        return Figure()

    running = asyncio.create_task(places.processes.run(assign(give, tmp_path / "shows"), heard))
    await until((tmp_path / "shows").exists, "the preview")
    places.processes.stop("j1", "cancel")

    assert (await running).outcome == "succeeded"


def test_of_a_file_that_is_returned_only_the_text_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("two\nlines")

    with path.open() as read, path.open("rb") as binary, path.open("a") as written:
        kept = succeeded({"notes": read}, allow_pickle=True).last()
        refused = [succeeded(file, allow_pickle=True).last() for file in (binary, written)]

    assert decode(kept.form, kept.body)["notes"].read() == "two\nlines"
    for outcome, kind in zip(refused, ("BufferedReader", "TextIOWrapper"), strict=True):
        sentence = (outcome.preview or {})["unavailable"]
        assert sentence.startswith(f"the task returned an open file (of type {kind}), ")
        assert "return its content or its path" in sentence
