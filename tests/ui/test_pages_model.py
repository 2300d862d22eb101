"""The models behind the pages: tracebacks, search texts, form fields, pages of jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from jobkit.model import EventType, InvalidParams, JobEvent, JobSnapshot, JobSpec, JobState
from jobkit.model.batch import BatchInfo, BatchSpec
from jobkit.store.grammar import read_search
from jobkit.store.query import Query, QueryPage
from jobkit.tasks.info import TaskInfo
from jobkit.tasks.options import check_options
from jobkit.tasks.specs import Choice, ParamSpec
from jobkit.ui.form.form_model import lead, options_of, read_field, read_form, read_options
from jobkit.ui.jobs.board import Board

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


def test_a_search_text_that_is_refused_finds_nothing_and_says_why() -> None:
    good, none = read_search("state:failed lr=0.003", order="-took")
    nothing, sentence = read_search("state:faild")

    assert (good.states, good.texts, good.order, none) == (("failed",), ("lr=0.003",), "-took", "")
    assert nothing.limit == 0
    assert sentence == (
        "State must be one of scheduled, queued, running, succeeded, failed, cancelled, waiting, ended, not 'faild'"
    )
    assert "Order must be one of" in read_search("", order="size")[1]


SPECS = (
    ParamSpec(name="n", kind="int", min=1, max=10),
    ParamSpec(name="lr", kind="float", required=False, default=0.1),
    ParamSpec(name="sizes", kind="list", item=ParamSpec(name="item", kind="int"), required=False, default=None),
    ParamSpec(name="method", kind="choice", choices=(Choice("euler", "euler"), Choice("rk4", "rk4")), required=False),
    ParamSpec(name="note", kind="str", nullable=True, required=False, default=None),
    ParamSpec(name="data", kind="table", required=False),
)


def test_a_form_gives_checked_values_and_leaves_untouched_fields_to_the_task() -> None:
    values, errors = read_form(
        SPECS, {"n": {"text": "3"}, "sizes": {"text": "1, 2"}, "method": {"value": "rk4"}, "note": {"text": ""}}
    )

    assert errors == {}
    assert values == {"n": 3, "sizes": [1, 2], "method": "rk4", "note": None}


def test_each_refused_field_gets_its_own_sentence() -> None:
    _, errors = read_form(SPECS, {"lr": {"text": "fast"}, "method": {"value": "magic"}, "sizes": {"text": "1, x"}})

    assert set(errors) == {"n", "lr", "method", "sizes"}
    assert errors["n"] == "n is required and must be a whole number from 1 to 10"
    assert "fast" in errors["lr"]
    assert "sizes[1]" in errors["sizes"]
    assert read_form(SPECS, {"n": {"text": "11"}})[1]["n"] == "n must be a whole number from 1 to 10, not 11"


def test_no_field_of_a_form_opens_a_file_of_the_server(tmp_path: Any) -> None:
    path = tmp_path / "secret.csv"
    path.write_text("a,b\n1,2\n")

    with pytest.raises(InvalidParams, match="file to upload"):
        read_field(SPECS[-1], {"text": str(path)})
    nested = ParamSpec(name="many", kind="list", item=SPECS[-1])
    with pytest.raises(InvalidParams, match="file to upload"):
        read_field(nested, {"text": str(path)})


def test_an_uploaded_table_becomes_a_data_frame() -> None:
    frame = read_field(SPECS[-1], {"file": {"name": "x.csv", "text": "a,b\n1,2\n"}})

    assert frame.to_dict("list") == {"a": [1], "b": [2]}
    for file in ({"name": "x.exe", "text": ""}, {"name": "x.json", "text": "{"}, {"name": "x.csv", "text": ""}, "x"):
        with pytest.raises(InvalidParams, match="data"):
            read_field(SPECS[-1], {"file": file})


def test_options_are_read_as_typed_and_wrong_ones_are_named() -> None:
    good, none = read_options({"queue": " gpu ", "delay": "30", "tags": "a, b,", "priority": ""})
    _, errors = read_options({"delay": "soon", "priority": "1.5"})

    assert (good, none) == ({"queue": "gpu", "delay": 30.0, "tags": ["a", "b"]}, {})
    assert set(errors) == {"option:delay", "option:priority"}
    assert read_options({"delay": "nan"})[1]


def test_every_option_of_a_form_has_a_line_of_explanation_and_the_value_of_the_task() -> None:
    given = {"timeout": "10m", "retries": "0", "memory_limit": "2GB", "resources": "gpu=1", "delay": "0"}

    options, errors = read_options(given)

    assert errors == {}
    checked = check_options(options, of="submission")
    assert (checked.timeout_s, checked.retries, checked.memory_limit_bytes) == (600.0, 0, 2_000_000_000)
    assert dict(checked.resources) == {"gpu": 1.0}
    wrong = {"timeout": "0", "memory_limit": "tiny", "resources": "gpu=x", "retries": "-1"}
    assert set(read_options(wrong)[1]) == {f"option:{name}" for name in wrong}
    info = TaskInfo("t", options=check_options({"retries": 2}))
    shown = {name: (about, usual) for name, _, about, usual in options_of(info)}
    assert shown["retries"] == ("If it fails, it runs again at most this often.", "2")
    assert shown["timeout"][1] == "none"
    assert all(about.endswith(".") for about, _ in shown.values())


def test_the_prose_of_a_docstring_ends_where_its_sections_begin() -> None:
    doc = "Train it.\n\nFits a model\nto data.\n\nArgs:\n    n: how many.\n"

    assert lead(doc, "Train it") == "Fits a model to data."
    assert lead("Only a title.", "Only a title") == ""


def snapshot(n: int, state: str = "queued", task: str = "train") -> JobSnapshot:
    at = datetime.fromtimestamp(NOW.timestamp() + n, UTC)
    return JobSnapshot(JobSpec(id=f"j{n}", task=task), seq=1, state=JobState(state), submitted_at=at)


def board(query: Query | None = None) -> Board:
    made = Board(query or Query(limit=3))
    made.load(QueryPage(tuple(snapshot(n) for n in (3, 2, 1)), "next"), {"queued": 3})
    return made


def delta(made: Board) -> dict[str, Any]:
    return made.delta(NOW)


def test_a_page_changes_in_place_and_says_only_what_changed() -> None:
    made = board()
    assert delta(made) == {}

    made.take(
        JobEvent("j2", 2, EventType.STARTED, 0, {"state": "running", "worker": "w", "attempt": 1, "started": 1000})
    )

    rows = delta(made)["rows"]
    assert [(row["id"], row["face"], row["worker"]) for row in rows] == [("j2", "running", "w")]
    assert delta(made) == {}


def test_new_jobs_come_as_new_and_only_those_that_match() -> None:
    made = board(Query(task="train", limit=3))
    for name in ("j0", "j4", "j5"):
        made.take(JobEvent(name, 1, EventType.SUBMITTED, 0, {"state": "queued"}))
    made.take(JobEvent("j5", 1, EventType.PROGRESSED, 0, {"rev": 1}))
    assert made.to_read(10) == ["j0", "j4", "j5"]

    made.learn([snapshot(4), snapshot(5, task="other"), snapshot(0)], NOW)

    assert [row["id"] for row in delta(made)["new"]] == ["j4"]
    assert next(iter(made.jobs)) == "j4"
    assert "j0" not in made.jobs  # older than the page's last row: it belongs to a later page


def test_new_rows_are_placed_by_their_time_of_submit_whichever_was_read_first() -> None:
    made = Board(Query(limit=9))
    made.load(QueryPage(tuple(snapshot(n) for n in (5, 1)), ""), {})
    for n in (2, 6, 3):
        made.take(JobEvent(f"j{n}", 1, EventType.SUBMITTED, 0, {"state": "queued"}))
    made.to_read(10)

    made.learn([snapshot(2), snapshot(6), snapshot(3)], NOW)

    assert [*made.jobs] == ["j6", "j5", "j3", "j2", "j1"]
    assert [(row["id"], row.get("below")) for row in delta(made)["new"]] == [("j6", None), ("j3", "j5"), ("j2", "j5")]


def test_events_of_a_new_job_that_come_while_it_is_read_are_not_lost() -> None:
    made = board(Query(limit=3))
    for name in ("j4", "j5", "j6"):
        made.take(JobEvent(name, 1, EventType.SUBMITTED, 0, {"state": "queued"}))
    made.to_read(10)
    made.take(JobEvent("j4", 2, EventType.CANCELLED, 0, {"state": "cancelled"}))
    made.take(JobEvent("j5", 2, EventType.DELETED, 0, {}))
    made.take(JobEvent("j6", 1, EventType.PROGRESSED, 0, {"rev": 1}))

    made.learn([snapshot(4), snapshot(5), snapshot(6)], NOW)  # as they were before

    assert made.to_read(10) == ["j4", "j6"]
    assert "j5" not in made.jobs


def test_a_batch_whose_last_job_is_deleted_while_it_is_first_read_does_not_stay() -> None:
    made = board(Query(limit=9))
    made.learn([replace(snapshot(4), batch="b")], NOW)
    before = BatchInfo(BatchSpec("b", "train", 1), {JobState.SUCCEEDED: 1}, 1, 1, submitted_at=NOW, ended_at=NOW)
    assert made.groups_to_read() == {"b"}
    made.take(JobEvent("j4", 4, EventType.DELETED, 0, {}))

    made.put_groups({"batch b": before}, NOW)  # as it was before
    assert made.groups_to_read() == {"b"}
    made.put_groups({"batch b": None}, NOW)

    assert "batch b" not in made.jobs


def test_a_batch_that_was_deleted_before_the_page_was_read_again_does_not_come_back() -> None:
    made = board(Query(limit=9))
    before = BatchInfo(BatchSpec("b", "train", 1), {JobState.RUNNING: 1}, 1, 1, submitted_at=NOW)
    made.load(QueryPage(()), {}, found={"batch b": before})
    assert made.groups_to_read() == set()
    made.load(QueryPage(()), {})

    made.put_groups({"batch b": before}, NOW)  # as it was before

    assert "batch b" not in made.jobs


def test_a_later_page_takes_no_new_jobs() -> None:
    made = board(Query(limit=3, cursor="c"))

    made.take(JobEvent("j9", 1, EventType.SUBMITTED, 0, {"state": "queued"}))

    assert not made.unknown


def test_a_gap_in_the_events_of_a_row_makes_it_be_read_again() -> None:
    made = board()

    made.take(JobEvent("j1", 5, EventType.FAILED, 0, {"state": "failed"}))

    assert list(made.unknown) == ["j1"]
    made.learn([JobSnapshot(JobSpec(id="j1", task="train"), seq=5, state=JobState.FAILED)], NOW)
    assert [row["face"] for row in delta(made)["rows"]] == ["failed"]


def test_deleted_jobs_leave_the_page() -> None:
    made = board()

    made.take(JobEvent("j2", 9, EventType.DELETED, 0, {}))

    assert delta(made)["gone"] == ["j2"]
    assert list(made.jobs) == ["j3", "j1"]
