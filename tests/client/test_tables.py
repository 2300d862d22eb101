"""Lists of a kit print as tables, and stay lists and dicts."""

from __future__ import annotations

import copy
import json
import pickle

import pytest

from jobkit.client.kit import Kit
from jobkit.client.tables import QueueTable, Stats, Table, TaskTable, WorkerTable
from jobkit.store.values import WorkerInfo
from jobkit.tasks.registry import task
from jobkit.ui.card.card_html import table_html
from jobkit.ui.notebook import TableDisplay

EVIL = "<script>alert(1)</script>\x1b[31m\nsecond"


def score(n: int, lr: float = 0.1) -> float:
    """Score a model."""
    return n * lr


def lines(table: Table) -> list[list[str]]:
    return [line.split() for line in repr(table).splitlines()]


def test_what_a_kit_lists_prints_as_a_table_and_is_what_it_was(kit: Kit) -> None:
    batch = kit.map(task(score), [{"n": 1}, {"n": 2}], name="first")
    batch.wait(60)

    assert lines(kit.batches())[0] == ["Id", "State", "Done", "Jobs", "Submitted", "Task", "Name", "Counts"]
    assert lines(kit.batches())[1][:4] == [batch.id, "succeeded", "100", "%"]
    assert ["score", "n=", "lr=0.1", "Score", "a", "model"] in lines(TaskTable({"score": kit.tasks()["score"]}))
    assert [line[:3] for line in lines(kit.jobs(task="score"))[1:]] == [
        [job.id, "succeeded", "score"] for job in kit.jobs(task="score")
    ]
    assert lines(kit.stats())[0][:2] == [str(kit.stats()["jobs"]["succeeded"]), "succeeded"]
    assert repr(kit.jobs(task="no_such")) == "No jobs."
    assert isinstance(kit.workers(), list)
    assert kit.tasks()["score"].title == "Score a model"
    assert json.loads(json.dumps(kit.stats()))["jobs"] == kit.stats()["jobs"]


def test_a_list_of_jobs_is_a_frame_with_a_row_a_job(kit: Kit) -> None:
    batch = kit.map(task(score), [{"n": 1}, {"n": 2}])
    batch.wait(60)

    frame = kit.jobs(task="score").to_frame()

    assert list(frame.index[:2]) == [job.id for job in kit.jobs(task="score")[:2]]
    assert list(frame.columns[:5]) == ["n", "lr", "task", "state", "result"]
    assert set(frame["state"][:2]) == {"succeeded"}
    assert (frame["duration_s"][:2] >= 0).all()
    assert kit.jobs(task="no_such").to_frame().empty


def fail() -> None:
    raise ValueError("no such thing")


def test_limits_failures_and_pools_are_tables_too(kit: Kit) -> None:
    kit.submit(fail).wait(60)
    kit.limits.set(queue="gpu", concurrency=2)

    limit, failure = (next(line for line in lines(table)[1:]) for table in (kit.limits(), kit.failures(task="fail")))

    kit.limits.remove(queue="gpu")
    assert limit == ["queue", "gpu", "2", "0"]
    assert failure[1] == "open"
    assert failure[-4:] == ["ValueError:", "no", "such", "thing"]
    assert repr(kit.pools()) == "No pools. `jobkit pools add NAME --on ENGINE --max N` adds one."


async def test_coroutines_give_the_same_tables(kit: Kit) -> None:
    assert type(await kit.aio.workers()) is type(kit.workers()) is WorkerTable
    assert type(await kit.aio.stats()) is Stats
    assert type(await kit.aio.tasks()) is TaskTable
    assert type(await kit.aio.queues()) is QueueTable


def test_columns_in_which_no_worker_has_anything_are_left_out() -> None:
    worker = WorkerInfo("vm.1.abc", slots=4, running=1, rss_bytes=43_000_000, version="1", python="3.11", done=12_345)
    gpu = WorkerInfo("b", gpus=("A100", "A100"))

    assert repr(WorkerTable([worker])).splitlines() == [
        "Worker    Alive  Busy  Done    CPU  Memory  Queues   Version",
        "vm.1.abc  yes    1/4   12,345  0 %  43 MB   default  1 / 3.11",
    ]
    assert "2 x A100" in repr(WorkerTable([worker, gpu]))
    assert repr(WorkerTable([])) == "No workers. `jobkit worker` starts one."


def test_all_in_a_table_is_text_of_one_line() -> None:
    table = WorkerTable([WorkerInfo(EVIL, pool=EVIL, queues=(EVIL,) * 3)])

    assert len(repr(table).splitlines()) == 2
    assert "\x1b" not in repr(table)
    html = table_html(table)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html


def test_long_tables_are_cut_and_say_so() -> None:
    table = WorkerTable(WorkerInfo(f"w{n}") for n in range(1234))

    assert repr(table).splitlines()[-1] == "and 1,174 more"
    assert "200 of 1,234 rows" in table_html(table)


def test_a_long_table_makes_only_the_rows_that_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(WorkerTable, "COLUMNS", {"Worker": lambda worker: made.append(worker) or "w"})

    repr(WorkerTable(WorkerInfo(f"w{n}") for n in range(1000)))

    assert len(made) == 60


def test_totals_of_which_some_were_taken_out_still_print(kit: Kit) -> None:
    stats = kit.stats()
    del stats["queues"], stats["busy"]

    assert repr(stats) == "No queues have been used yet."
    assert repr(copy.copy(stats)) == repr(stats)


def test_schedules_and_studies_print_as_tables(kit: Kit) -> None:
    assert repr(kit.schedules()) == "No schedules. `jobkit schedule TASK --cron ...` creates one."
    assert repr(kit.studies()) == "No studies. kit.study(objective, space=...) begins one."
    made = kit.schedule(task(score), {"n": 1}, cron="0 6 * * *", name="nightly")

    assert lines(kit.schedules())[0] == ["Name", "When", "Next", "Last", "runs", "Task", "Arguments"]
    assert lines(kit.schedules())[1][0] == "nightly"
    assert "paused" not in repr(kit.schedules())
    made.pause()
    assert "paused" in repr(kit.schedules())
    assert kit.schedules() == [made]
    made.remove()


def test_a_table_can_be_copied_and_pickled() -> None:
    table = WorkerTable([WorkerInfo("a")])

    assert pickle.loads(pickle.dumps(table)) == copy.deepcopy(table) == [WorkerInfo("a")]
    assert repr(pickle.loads(pickle.dumps(table))) == repr(table)


def test_a_cell_shows_the_table_as_html_and_a_terminal_its_text() -> None:
    table = WorkerTable([WorkerInfo("a")])

    bundle, metadata = table._repr_mimebundle_()

    assert (bundle["text/plain"], metadata) == (repr(table), {})
    assert "<td>a</td>" in bundle["text/html"]
    assert "<td>a</td>" in table.widget().value
    assert TableDisplay(table).static(None) == bundle
