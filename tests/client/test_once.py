"""Deduplication by the client: `unique`, `debounce` and `cache`, in each place where jobs run."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from jobkit.client.kit import Kit
from jobkit.model import Gate, InvalidParams
from jobkit.tasks.options import check_options, check_submit_options
from jobkit.tasks.task import TaskDef
from jobkit.tasks.work import code_version


def task(function: Callable[..., Any], **options: Any) -> TaskDef[..., Any]:
    """Task of this test only, with separate keys."""
    return TaskDef(function, name=f"t{secrets.token_hex(4)}", options=check_options(options))


def draw(n: int = 1, user: str = "ada", verbose: bool = False) -> str:
    import secrets

    return f"{n} {secrets.token_hex(8)}"


def test_the_same_work_while_it_waits_is_one_job(kit: Kit) -> None:
    same = task(draw, unique=60)

    first = kit.submit(same, 1)

    assert kit.submit(same, n=1) is first
    assert kit.submit(same, 2).id != first.id
    assert kit.options(unique=False).submit(same, 1).id != first.id


def test_a_key_defines_the_same_work(kit: Kit) -> None:
    same = task(draw, unique=60, unique_key=lambda user: user)
    first = kit.submit(same, 1, user="bob")

    assert kit.submit(same, 2, user="bob") is first
    assert kit.submit(same, 1, user="cleo").id != first.id
    by_text = task(draw, unique=60, unique_key="{user}-{n}")
    assert kit.submit(by_text, 1).id == kit.submit(by_text, 1, verbose=True).id


def test_a_batch_deduplicates_its_jobs(kit: Kit) -> None:
    batch = kit.map(task(draw, unique=60), [{"n": 1}, {"n": 2}, {"n": 1}])

    assert len(batch.jobs) == 2


def test_a_manual_retry_of_unique_work_is_another_job(kit: Kit) -> None:
    job = kit.submit(task(draw, unique=600), 1)
    first = job.result(60)

    again = job.retry()

    assert (again.id != job.id, again.snapshot.spec.retry_of) == (True, job.id)
    assert again.result(60) != first


def test_the_last_submit_wins(queued: Kit) -> None:
    last = task(draw, debounce=0.5)

    jobs = [queued.submit(last, n) for n in (1, 2, 3)]

    assert len({job.id for job in jobs}) == 1
    assert jobs[0].result(60).startswith("3 ")
    assert jobs[0].params["n"] == 3


def test_a_cached_result_is_returned_at_once_and_names_its_job(kit: Kit) -> None:
    kept = task(draw, cache="7d", cache_ignore="verbose")
    made = kit.submit(kept, 1)
    value = made.result(60)

    hit = kit.submit(kept, n=1, user="ada", verbose=True)

    assert (hit.state, hit.snapshot.cached_from) == ("succeeded", made.id)
    assert hit.result() == value
    assert hit.snapshot.to_json()["cached_from"] == made.id
    assert kit.preview(hit.id) == kit.preview(made.id)
    assert kit.submit(kept, 2).result(60) != value
    assert kit.options(version="2").submit(kept, 1).result(60) != value


def test_fresh_and_retry_run_again(kit: Kit) -> None:
    kept = task(draw, cache=3600)
    value = kit.submit(kept, 1).result(60)

    fresh = kit.options(fresh=True).submit(kept, 1)

    assert fresh.result(60) != value
    hit = kit.submit(kept, 1)
    assert hit.snapshot.cached_from == fresh.id
    assert hit.retry().result(60) != fresh.result()


def test_a_cached_result_can_be_an_argument_of_another_job(kit: Kit) -> None:
    kept = task(lambda n: n, cache=3600)
    kit.submit(kept, 20).result(60)

    assert kit.submit(lambda a, b: a + b, kit.submit(kept, 20), 1).result(60) == 21


def test_changed_code_is_another_version() -> None:
    def one(n: int) -> int:
        return n + 1

    def two(n: int) -> int:
        return n + 2

    def closed(by: int) -> Callable[[int], int]:
        return lambda n: n + by

    assert code_version(one) == code_version(one)
    assert code_version(one) != code_version(two)
    assert code_version(closed(1)) == code_version(closed(1)) != code_version(closed(2))


def test_limit_keys_are_made_from_the_arguments(kit: Kit) -> None:
    def gates(*args: Any, **options: Any) -> tuple[Gate, ...]:
        return kit.options(**options).submit(limited, *args).snapshot.spec.limits

    limited = task(draw)

    assert gates(1, concurrency=2, rate="5/10s") == (Gate(f"task:{limited.name}", 2, 5, 10_000),)
    assert gates(1, "bob", concurrency=1, limit_key=lambda user: user) == (Gate(f"key:{limited.name} bob", 1),)
    assert gates(1, "bob", rate="1/h", limit_key="api-{user}") == (Gate("key:api-bob", 0, 1, 3_600_000),)
    assert gates(1, concurrency=1, limit_key=lambda user: None) == ()
    assert gates(1, one_at_a_time=True) == (Gate(f"task:{limited.name}", 1),)
    assert gates(1) == ()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"concurrency": 1, "limit_key": lambda who: who}, "limit_key takes 'who', which task"),
        ({"concurrency": 1, "limit_key": "{who}"}, "its arguments are: n, user, verbose"),
        ({"concurrency": 1, "limit_key": lambda user: [user]}, "must give a text of 1 to 200 printable characters"),
        ({"concurrency": 1, "limit_key": lambda n: 1 / (n - 1)}, "raised ZeroDivisionError: division by zero"),
        ({"limit_key": "{user}"}, "limit_key needs concurrency= or rate="),
        ({"unique": True, "debounce": 5}, "unique and debounce exclude each other"),
        ({"unique": "later"}, "unique must be True"),
        ({"unique_key": "{user}"}, "unique_key needs unique= or debounce="),
        ({"debounce": 5, "key": "a"}, "key and debounce exclude each other"),
        ({"cache": "7d", "cache_ignore": "who"}, "cache_ignore names 'who', which task"),
        ({"cache_ignore": "n"}, "cache_ignore needs cache="),
    ],
)
def test_invalid_combinations_are_refused_before_anything_is_stored(
    kit: Kit, options: dict[str, Any], sentence: str
) -> None:
    before = len(kit.jobs(limit=1000))

    with pytest.raises(InvalidParams) as caught:
        kit.options(**options).submit(draw, 1)

    assert sentence in str(caught.value)
    assert len(kit.jobs(limit=1000)) == before


def test_tasks_with_a_key_function_can_be_submitted_only_with_their_code(kit: Kit) -> None:
    """A dashboard knows the task by its definition only."""
    from jobkit.client.submit import SubmitOrigin, prepare
    from jobkit.tasks.info import TaskInfo

    def info(**options: Any) -> TaskInfo:
        return TaskInfo.from_definition(task(draw, **options).info().to_json())

    def limits(known: TaskInfo) -> Any:
        return prepare(known, (), {}, check_submit_options({}), SubmitOrigin(kit.settings, kit.codec, "me")).spec.limits

    by_text = info(concurrency=1, limit_key="{user}")
    assert limits(by_text) == (Gate("key:ada", 1),)
    given_back = info(concurrency=1, limit_key=lambda user: user)
    assert limits(given_back) == (Gate(f"key:{given_back.name} ada", 1),), "this option needs no code of the task"
    with pytest.raises(InvalidParams, match="its code is not here"):
        limits(info(concurrency=1, limit_key=lambda user: user.lower()))
