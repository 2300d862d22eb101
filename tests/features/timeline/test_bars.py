"""The timeline's model: a list of events in, bars, lanes and series out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from jobkit.features.timeline.bars import (
    COLOURS,
    LANES,
    TEXTURES,
    TaskColours,
    TimelineModel,
    bars_of,
    fit,
    quantiles,
    series,
)
from jobkit.model import EventType, JobEvent, JobSnapshot, JobSpec, JobState, apply
from jobkit.store.query import Query
from tests.ui.test_esm import sources, units_pass

T0 = 1_800_000_000_000

STATES = {"submitted": "queued", "queued": "queued", "started": "running", "lost": "queued", "retried": "scheduled"}


def event(job_id: str, seq: int, type: str, at_s: float, **data: Any) -> JobEvent:
    state = data.pop("state", STATES.get(type, type))
    return JobEvent(job_id, seq, EventType(type), T0 + round(at_s * 1000), {"state": state, **data})


def started(job_id: str, seq: int, at_s: float, worker: str = "w", attempt: int = 1) -> JobEvent:
    at_ms = T0 + round(at_s * 1000)
    return event(job_id, seq, "started", at_s, worker=worker, attempt=attempt, started=at_ms)


def job(job_id: str, *events: JobEvent, task: str = "train") -> JobSnapshot:
    at = datetime.fromtimestamp(events[0].at_ms / 1000, UTC)
    made: JobSnapshot | None = JobSnapshot(JobSpec(job_id, task), 0, JobState.QUEUED, submitted_at=at)
    for each in events:
        assert made is not None
        made = apply(made, each)
    assert made is not None
    return made


def ran(job_id: str, start_s: float, end_s: float, worker: str = "w", task: str = "train") -> JobSnapshot:
    return job(
        job_id,
        event(job_id, 1, "submitted", start_s - 1),
        started(job_id, 2, start_s, worker),
        event(job_id, 3, "succeeded", end_s, finished=T0 + round(end_s * 1000)),
        task=task,
    )


def loaded(*jobs: JobSnapshot, limit: int = 100, **told: Any) -> TimelineModel:
    made = TimelineModel(limit=limit)
    made.load(jobs, None, **told)
    return made


def lanes(timeline: TimelineModel) -> dict[str, int]:
    return {bar.key: bar.lane for bar in timeline.all_bars()}


def keys(bars: Iterable[Any]) -> list[str]:
    return [f"{bar[0]}/{bar[1]}" for bar in bars]


def test_each_attempt_is_a_bar_that_begins_with_its_wait() -> None:
    bars = bars_of(
        job(
            "a",
            event("a", 1, "submitted", 0),
            started("a", 2, 3),
            event("a", 3, "retried", 5, due=T0 + 9_000, reason="try again"),
            started("a", 4, 10, "v", attempt=2),
            event("a", 5, "lost", 12),
            started("a", 6, 14, attempt=3),
        )
    )

    assert [(b.attempt, b.worker, b.outcome, b.ended_ms and b.ended_ms - T0) for b in bars] == [
        (1, "w", "retried", 5_000),
        (2, "v", "lost", 12_000),
        (3, "w", "running", None),
    ]
    # The second waited from the end of its backoff, the third from the moment at which its worker was lost.
    assert [b.ready_ms and b.ready_ms - T0 for b in bars] == [0, 9_000, 12_000]


def test_a_job_that_waits_for_a_time_or_another_job_has_not_waited_for_a_worker() -> None:
    late = job(
        "a",
        event("a", 1, "submitted", 0, state="scheduled", due=T0 + 60_000),
        event("a", 2, "queued", 60),
        started("a", 3, 61),
    )
    after = job("b", event("b", 1, "submitted", 0, state="scheduled"), started("b", 2, 9))

    assert bars_of(late)[0].ready_ms == T0 + 60_000
    assert bars_of(after)[0].ready_ms is None


def test_concurrent_attempts_get_separate_lanes_which_are_reused() -> None:
    timeline = loaded(ran("a", 0, 10), ran("b", 5, 20), ran("c", 12, 15), ran("d", 6, 7, worker="v"))

    assert lanes(timeline) == {"a/1": 0, "b/1": 1, "c/1": 0, "d/1": 0}

    timeline.learn([job("e", event("e", 1, "submitted", 29), started("e", 2, 30))], T0)
    timeline.learn([job("f", event("f", 1, "submitted", 29), started("f", 2, 31))], T0)
    assert (lanes(timeline)["e/1"], lanes(timeline)["f/1"]) == (0, 1)
    timeline.take(event("e", 3, "succeeded", 33))
    timeline.learn([job("g", event("g", 1, "submitted", 32), started("g", 2, 34))], T0)
    assert lanes(timeline)["g/1"] == 0
    assert lanes(timeline)["e/1"] == 0  # an ended bar stays in its lane


def test_a_worker_has_at_most_so_many_lanes() -> None:
    timeline = loaded(*(ran(f"j{n}", 0, 10) for n in range(40)))

    assert max(lanes(timeline).values()) == LANES - 1


def test_a_delta_holds_the_jobs_that_moved_and_nothing_else() -> None:
    timeline = loaded(ran("a", 0, 10), job("b", event("b", 1, "submitted", 11)))
    assert timeline.delta(T0) == {}

    timeline.take(started("b", 2, 12))
    timeline.whole(T0)  # for another browser: this one has to get the delta all the same
    delta = timeline.delta(T0 + 12_000)

    assert keys(delta["bars"]) == ["b/1"]
    timeline.take(event("a", 9, "deleted", 13))
    delta = timeline.delta(T0)
    assert (delta["bars"], delta["gone"]) == ([], ["a"])


def test_jobs_that_are_new_or_were_missed_are_asked_for() -> None:
    timeline = loaded(job("a", event("a", 1, "submitted", 0)))

    timeline.take(event("new", 1, "submitted", 1))
    timeline.take(event("a", 3, "succeeded", 2))  # 2 was missed
    timeline.take(event("a", 1, "submitted", 0))  # old news

    assert list(timeline.unknown) == ["new", "a"]
    timeline.learn([job("new", event("new", 1, "submitted", 1)), None], T0)
    assert list(timeline.unknown) == ["a"]


def test_a_job_that_is_deleted_during_its_read_stays_away() -> None:
    timeline = loaded()
    timeline.take(started("a", 2, 1))
    assert timeline.to_read(10) == ["a"]
    timeline.take(event("a", 4, "deleted", 3))

    timeline.learn([ran("a", 1, 2)], T0)

    assert not timeline.all_bars()


def test_events_of_a_job_during_its_read_are_not_lost() -> None:
    for query in (Query(), Query(states=("running",))):
        timeline = TimelineModel(query=query)
        timeline.take(started("a", 2, 1))
        assert timeline.to_read(10) == ["a"]

        timeline.take(event("a", 3, "succeeded", 5))  # the answer to the reading is already on its way
        timeline.learn([job("a", event("a", 1, "submitted", 0), started("a", 2, 1))], T0)

        assert timeline.to_read(10) == ["a"]
        timeline.learn([ran("a", 1, 5)], T0)
        assert [bar.outcome for bar in timeline.all_bars()] == ([] if query.states else ["succeeded"])


def test_of_more_attempts_than_are_kept_those_go_that_ended_first_and_it_says_so() -> None:
    timeline = loaded(*(ran(f"j{n}", n, n + 1) for n in range(10)), limit=4)

    assert sorted(timeline.bars) == ["j6", "j7", "j8", "j9"]
    assert timeline.since_ms == T0 + 6_000
    assert series(timeline, T0, T0 + 10_000, 10)["busy"] == [None] * 5 + [0.0, 1.0, 1.0, 1.0, 1.0]
    assert sum(series(timeline, T0, T0 + 10_000, 10)["succeeded"]) == 10  # endings are counted all the same


def test_jobs_that_wait_for_a_time_are_due() -> None:
    timeline = loaded(job("a", event("a", 1, "submitted", 0, state="scheduled", due=T0 + 60_000)))

    assert timeline.whole(T0)["due"] == [["a", "train", T0 + 60_000]]


def test_series_count_endings_and_attempts_that_ran_at_once() -> None:
    failed = job(
        "x", event("x", 1, "submitted", 0), started("x", 2, 10), event("x", 3, "failed", 25, finished=T0 + 25_000)
    )
    found = series(loaded(ran("a", 0, 10), ran("b", 5, 25), failed), T0, T0 + 30_000, 3)

    assert found["succeeded"] == [0, 1, 1]
    assert found["failed"] == [0, 0, 1]
    assert found["busy"] == [1.5, 2.0, 1.0]
    assert found["edges"] == [T0, T0 + 10_000, T0 + 20_000, T0 + 30_000]


def test_the_depth_of_the_queues_is_counted_back_from_what_is_true_now() -> None:
    waiting = [job(f"q{n}", event(f"q{n}", 1, "submitted", 14)) for n in range(3)]
    # Of 5,000 that wait, three came in the range; "a" stood in the queue from -1 to 8.
    a = job("a", event("a", 1, "submitted", -1), started("a", 2, 8))
    timeline = loaded(*waiting, a, queued=5_000)

    assert series(timeline, T0, T0 + 30_000, 6)["depth"] == [4998, 4997, 5000, 5000, 5000, 5000]
    timeline.take(event("q0", 2, "cancelled", 22))
    timeline.take(event("new", 1, "submitted", 27))
    timeline.take(started("unknown", 2, 28))
    timeline.queued = 4_999
    assert series(timeline, T0, T0 + 30_000, 6)["depth"] == [4998, 4997, 5000, 5000, 4999, 4999]
    timeline.depth_since_ms = T0 + 6_000
    assert series(timeline, T0, T0 + 30_000, 6)["depth"][:2] == [None, 4997]


def test_waiting_and_running_times_are_shown_by_task() -> None:
    jobs = [ran(f"j{n}", n, 2 * n) for n in range(1, 11)]
    found = series(loaded(*jobs, ran("k", 0, 1, task="plot")), T0, T0 + 60_000)["tasks"]

    assert [(each["task"], each["count"]) for each in found] == [("train", 10), ("plot", 1)]
    assert found[0]["ran"] == [2.0, 3.0, 6.0, 8.0, 10.0]
    assert found[0]["waited"] == [1.0] * 5
    assert quantiles([]) == []


def test_the_first_range_fits_the_data() -> None:
    now = T0 + 1_000_000

    assert fit([], now) == now - 60_000
    assert fit(bars_of(ran("a", 100, 900)), now) == T0 + 99_000
    assert fit(bars_of(ran("a", 100, 900)), now, T0 + 500_000) == T0 + 500_000
    assert fit(bars_of(ran("a", -200_000, 900)), now) == now - 86_400_000


def test_the_timeline_of_own_jobs_never_has_others() -> None:
    def of(owner: str, snapshot: JobSnapshot) -> JobSnapshot:
        return replace(snapshot, spec=replace(snapshot.spec, owner=owner))

    made = TimelineModel(only="ada")
    made.load([of("ada", ran("mine", 1, 2)), of("bob", ran("theirs", 1, 2))], None)
    for job_id in ("mine-2", "theirs-2"):
        made.take(event(job_id, 1, "submitted", 10))
        made.take(started(job_id, 2, 11))
    assert {bar.job_id for bar in made.all_bars()} == {"mine"}
    assert list(made.unknown) == ["mine-2", "theirs-2"]
    running = {
        job_id: job(job_id, event(job_id, 1, "submitted", 10), started(job_id, 2, 11))
        for job_id in ("mine-2", "theirs-2")
    }
    made.learn([of("ada", running["mine-2"]), of("bob", running["theirs-2"])], T0)
    for job_id in ("mine-2", "theirs-2"):
        made.take(event(job_id, 3, "failed", 12, finished=T0 + 12_000))
        made.take(event("theirs", 4, "deleted", 13))

    assert made.unknown == {}
    assert {bar.job_id for bar in made.all_bars()} == {"mine", "mine-2"}
    assert made.ended(T0, T0 + 60_000) == [(T0 // 1000 + 2, [1, 0, 0]), (T0 // 1000 + 12, [0, 1, 0])]
    assert made.depth([T0 + 9_500, T0 + 10_500, T0 + 20_000]) == [0, 1, 0]
    delta = made.delta(T0)
    assert "theirs" not in str(delta)


def test_a_job_comes_and_goes_with_what_the_query_asks_for() -> None:
    timeline = TimelineModel(query=Query(states=("failed",), task=("train",)))
    timeline.load([], None)
    begun = [event("a", 1, "submitted", 0), started("a", 2, 1)]

    for each in begun:
        timeline.take(each)
    assert timeline.unknown == {}  # what runs is not asked for
    failed = event("a", 3, "failed", 5, finished=T0 + 5_000)
    timeline.take(failed)
    assert timeline.to_read(10) == ["a"]
    timeline.learn([job("a", *begun, failed)], T0)
    assert keys(timeline.whole(T0)["bars"]) == ["a/1"]
    assert timeline.ended(T0, T0 + 9_000) == [(T0 // 1000 + 5, [0, 1, 0])]
    assert series(timeline, T0, T0 + 10_000, 10)["depth"] == [1] + [0] * 9  # when it waited, it was to fail

    timeline.take(event("a", 4, "queued", 7))  # it is given another chance

    delta = timeline.delta(T0)
    assert (delta["bars"], delta["gone"]) == ([], ["a"])
    assert [counts for _, counts in timeline.ended(T0, T0 + 9_000) if any(counts)] == []


def test_an_attempt_gets_the_lane_of_the_jobs_earlier_one_on_that_worker() -> None:
    again = [
        event("b", 1, "submitted", 0),
        started("b", 2, 2),
        event("b", 3, "retried", 8, due=T0 + 9_000, reason="try again"),
        started("b", 4, 10, attempt=2),
    ]
    timeline = loaded(ran("a", 0, 5), job("b", *again))
    assert lanes(timeline) == {"a/1": 0, "b/1": 1, "b/2": 1}

    timeline = loaded(ran("a", 0, 5), job("b", *again[:2]))
    for each in again[2:]:
        timeline.take(each)
    assert lanes(timeline) == {"a/1": 0, "b/1": 1, "b/2": 1}


def test_tasks_have_separate_colours_which_do_not_depend_on_what_is_shown() -> None:
    known = ["train", "count", "plot", "score", "etl", "mail", "clean", "crawl"]
    colours = TaskColours(known)

    numbers = {task: colours.of(task) for task in known}
    assert sorted(numbers.values()) == list(range(COLOURS))
    assert {task: TaskColours(reversed(known)).of(task) for task in known} == numbers
    others = [colours.of(f"other {n}") for n in range(COLOURS * TEXTURES)]
    assert len({*numbers.values(), *others}) == COLOURS * TEXTURES

    timeline = TimelineModel()
    timeline.colours = TaskColours(known)
    timeline.load([ran("a", 0, 5, task="plot")], None)
    assert timeline.whole(T0)["colours"] == {"plot": numbers["plot"]}


def test_a_bar_names_the_arguments_that_are_not_the_tasks_defaults() -> None:
    begun = [event("a", 1, "submitted", 0), started("a", 2, 1)]
    given = job("a", *begun)
    timeline = TimelineModel()
    timeline.defaults = {"train": {"n": 1, "lr": 0.1}}
    timeline.load([replace(given, spec=replace(given.spec, params={"n": 1, "lr": 0.5}))], None)

    assert [bar.args for bar in timeline.all_bars()] == ["lr=0.5"]


def test_jobs_that_can_never_match_are_read_once_but_for_those_that_move() -> None:
    timeline = TimelineModel(query=Query(queue=("gpu",)))
    timeline.take(event("a", 1, "submitted", 0))
    timeline.learn([job("a", event("a", 1, "submitted", 0))], T0)

    timeline.take(event("a", 2, "queued", 1))
    assert timeline.unknown == {}
    timeline.take(event("a", 3, "moved", 2, queue="gpu"))
    assert timeline.to_read(10) == ["a"]


def test_units_of_the_lanes_pass_under_nodes_test_runner(tmp_path: Path) -> None:
    names = "arrangeLanes, fromAxis, laneBlocks, laneLabel, laneRows, mixed, toAxis"
    units_pass(Path(__file__).parent, tmp_path, lanes=f"{sources('timeline_lanes')}\nexport {{{names}}};\n")
