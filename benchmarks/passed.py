"""Files of jobkit that a submit, a claim, a line of output and an event pass: `python -m benchmarks.passed`.

A file is passed if a function in it is called on the way, in whichever process. `CONTRIBUTING.md` says between which
moments. Of several rounds, the files of each round count: what only some of them pass has another cause.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_ROUNDS = 7

#: Calls that are kept: (time in ns, file).
_CALLS = 1_000_000

_HOME = str(Path(__file__).parent.parent / "jobkit")

#: The calls of this process since it was watched, the newest last.
_called: deque[tuple[int, str]] = deque(maxlen=_CALLS)


def watch() -> None:
    """Remember the calls of this thread and of those that it starts."""

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call" and (file := frame.f_code.co_filename).startswith(_HOME):
            _called.append((time.monotonic_ns(), file))

    threading.setprofile(note)
    sys.setprofile(note)


def between(since: int, until: int) -> list[str]:
    """Return the files that this process has passed between two moments (ns of the monotonic clock)."""
    found = {file for at, file in list(_called) if since <= at <= until}
    return sorted(file.removeprefix(f"{_HOME}/") for file in found)


# -- tasks of the worker --------------------------------------------------------------------------------------------------

_TASKS = """
    import asyncio, sys, time
    import jobkit
    from benchmarks import passed

    @jobkit.task
    async def started(since: int) -> tuple[int, list[str]]:
        now = time.monotonic_ns()
        return now, passed.between(since, now)

    @jobkit.task
    async def seen(since: int, until: int) -> list[str]:
        return passed.between(since, until)

    @jobkit.task
    def printed(text: str, wait_s: float) -> tuple[int, list[str]]:
        time.sleep(wait_s)  # until the page shows the job
        passed.watch()
        now = time.monotonic_ns()
        print(text[::-1], flush=True)  # the card shows the argument, too
        time.sleep(0.5)
        sys.setprofile(None)
        return now, passed.between(now, time.monotonic_ns())
"""


def _worker(folder: str) -> None:
    sys.path.insert(0, folder)
    from jobkit.__main__ import main

    sys.argv = ["jobkit", "worker", "--tasks", "passed_tasks"]
    main()


def _common(rounds: Sequence[Sequence[str]]) -> list[str]:
    return sorted(set.intersection(*map(set, rounds)))


def _until(what: Callable[[], object]) -> int:
    deadline = time.monotonic() + 30
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.001)
    return time.monotonic_ns()


def measure() -> dict[str, list[str]]:
    """Return the files of each way."""
    from benchmarks.place import SECRET, Place, private_redis, running

    with private_redis() as (url, folder):
        (folder / "passed_tasks.py").write_text(textwrap.dedent(_TASKS))
        place = Place(url, folder, False, {})
        sys.path.insert(0, str(folder))
        with running([sys.executable, "-c", _CODE, str(folder)], place):
            return _measure(url, SECRET)


#: The program of the worker.
_CODE = "import sys; from benchmarks import passed; passed.watch(); passed._worker(sys.argv[1])"


def _submit_and_claim(kit: Any, started: Any) -> tuple[list[str], list[str]]:
    since = time.monotonic_ns()
    job = kit.submit(started, since)
    until = time.monotonic_ns()
    _, claimed = job.result(30)
    return between(since, until), claimed


def _print_to_card(kit: Any, page: Any, tasks: Any, text: str) -> list[str]:
    from jobkit.ui.card.job_card import JobCard

    job = kit.submit(tasks.printed, text, 1.0)
    card: Any = JobCard(page, job.id)
    until = _until(lambda: any(text[::-1] in str(value) for value in card.param.values().values()))
    since, inside = job.result(30)
    on_worker = kit.submit(tasks.seen, since, until).result(30)
    return [*inside, *on_worker, *between(since, until)]


def _event_to_row(page: Any, code: str) -> list[str]:
    """`code`: a program that submits a job."""
    from jobkit.store.query import Query
    from jobkit.ui.jobs.board import BoardFeed
    from jobkit.ui.live.shared_feed import Subscriber

    told: list[Any] = []
    subscriber = Subscriber(lambda *news: told.append(news)).start(page, BoardFeed, Query(), None)
    _until(lambda: told)
    time.sleep(0.5)  # what follows the first page
    told.clear()
    since = time.monotonic_ns()
    subprocess.run([sys.executable, "-c", code], check=True)
    until = _until(lambda: told)
    subscriber.stop()
    return between(since, until)


def _measure(url: str, secret: str) -> dict[str, list[str]]:
    import jobkit

    code = f"import jobkit; jobkit.connect({url!r}, secret={secret!r}).submit(len, 'abc')"
    with jobkit.connect(url, secret=secret) as kit, jobkit.connect(url, secret=secret) as page:
        import passed_tasks as tasks  # type: ignore[import-not-found]  # written above

        _submit_and_claim(kit, tasks.started)  # loads modules
        submits, claims = zip(*(_submit_and_claim(kit, tasks.started) for _ in range(_ROUNDS)), strict=True)
        return {
            "submit": _common(submits),
            "claim to function": _common(claims),
            "print to card": _common([_print_to_card(kit, page, tasks, f"line {n}") for n in range(_ROUNDS)]),
            "event to row": _common([_event_to_row(page, code) for _ in range(_ROUNDS)]),
        }


def main() -> None:
    for way, files in measure().items():
        print(f"{way}: {len(files)}")
        print(textwrap.indent("\n".join(files), "    "))


if __name__ == "__main__":
    from benchmarks import passed  # the module that tasks know, not `__main__`

    passed.watch()
    passed.main()
