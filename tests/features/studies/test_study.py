"""Studies as users see them: made, followed, opened again, refused, pruned, cancelled."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Annotated, Any

import optuna
import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.features.moving.transfer import JobExport, JobImport
from tests.client.calls import valley
from tests.support import wait_until

SPACE = {"x": (-5.0, 5.0), "kind": ["square", "far"]}


def test_a_study_finds_good_arguments_and_is_opened_again(kit: Kit) -> None:
    def flat(x: float, kind: str) -> float:
        return valley(x, kind)

    study = kit.study(flat, trials=10, parallel=3, space=SPACE, name="valley")
    best = study.result(60)

    assert best is not None
    assert best == study.best
    assert best.value == flat(**best.params)
    frame = study.trials()
    assert list(frame.columns) == ["state", "value", "x", "kind", "job", "error"]
    assert list(frame.index) == list(range(10))
    assert set(frame["state"]) == {"complete"}
    assert best.value == frame["value"].min()
    assert [job.params for job in study.batch] == frame[["x", "kind"]].to_dict("records")
    assert [job.id for job in study.batch] == list(frame["job"])
    assert study.optuna.best_value == best.value
    assert (study.completed, study.progress, study.direction, study.name) == (10, 1.0, "minimize", "valley")
    assert study.message == f"best {best.value:.4g} (trial {best.number})"
    assert len(study.job.metrics()) == 10
    assert "valley" in repr(study)

    again = kit.study(id=study.id)
    assert (again.best, len(again.batch)) == (best, 10)
    assert [each.id for each in kit.studies()] == [study.id]
    assert kit.batches.info(study.id).spec.direction == "minimize"


def test_the_same_id_is_the_same_study(kit: Kit) -> None:
    made = [kit.study(valley, trials=3, space=SPACE, id="tune-1") for _ in range(2)]
    assert made[0].wait(60)
    assert made[1].wait(60)
    assert [study.id for study in kit.studies()] == ["tune-1"]
    assert kit.batches.info("tune-1").made == 3
    assert kit.study(id="tune-1").best == made[0].best
    assert kit.study(id="tune") is kit.study(id="tune-1")
    with pytest.raises(jobkit.JobNotFound, match="no study 'tune-2' is kept here"):
        kit.study(id="tune-2")
    with pytest.raises(jobkit.InvalidParams, match="is the id of a job of valley, which is no study"):
        kit.study(id=made[0].batch[0].id)


def test_a_study_moves_with_its_journal_and_its_trials(kit: Kit) -> None:
    study = kit.study(valley, trials=4, space=SPACE, id="tune-9")
    best = study.result(60)
    ids = [study.id, *(job.id for job in study.batch)]
    job_export = JobExport(kit)
    lines = io.BytesIO(b"".join([*job_export.lines(ids), *job_export.end()]))
    kit.delete(ids)
    assert not kit.studies()

    job_import = JobImport(kit, lines)
    job_import.check()
    job_import.store()

    moved = kit.study(id="tune-9")
    assert (moved.best, len(moved.batch), moved.optuna.best_value) == (best, 4, best and best.value)
    assert kit.batches.info("tune-9").spec.direction == "minimize"


def test_trials_of_a_deleted_study_are_not_those_of_the_next_one(kit: Kit) -> None:
    assert kit.study(valley, trials=3, space=SPACE, id="tune-1").wait(60)
    assert kit.delete("tune-1") == [True]
    with pytest.raises(jobkit.InvalidParams, match=r"an earlier study 'tune-1' are kept: .* kit.batches.delete"):
        kit.study(valley, trials=3, space=SPACE, id="tune-1")

    assert kit.batches.delete("tune-1") == 3
    study = kit.study(valley, trials=2, space=SPACE, id="tune-1")
    assert study.wait(60)
    assert [valley(**job.params) for job in study.batch] == list(study.trials()["value"])
    assert kit.batches.delete("tune-1") == 3
    assert kit.jobs() == []


async def test_a_study_is_begun_and_awaited_in_a_loop(kit: Kit) -> None:
    study = await kit.aio.options(tags=["tuned"]).study(valley, trials=3, space=SPACE, direction="maximize")
    best = await study
    assert best is not None
    assert best.value == max(study.trials()["value"])
    assert study.batch[0].tags == ["tuned"]
    assert [each.id for each in await kit.aio.studies()] == [study.id]


def test_a_space_may_depend_on_what_was_chosen_before(kit: Kit) -> None:
    def model(kind: str, depth: int = 1, rate: float = 0.0) -> float:
        return depth if kind == "tree" else rate

    def space(trial: optuna.Trial) -> dict[str, Any]:
        if trial.suggest_categorical("kind", ["tree", "net"]) == "tree":
            return {"kind": "tree", "depth": trial.suggest_int("depth", 2, 9)}
        return {"kind": "net", "rate": trial.suggest_float("rate", 0.1, 0.9)}

    study = kit.study(model, trials=8, parallel=2, space=space, sampler=optuna.samplers.RandomSampler(seed=1))
    study.wait(60)
    frame = study.trials()
    assert set(frame["kind"]) == {"tree", "net"}
    assert list(frame["value"]) == list(frame["depth"].fillna(frame["rate"]))


def grid(**values: list[Any]) -> dict[str, Any]:
    return {"space": values, "sampler": optuna.samplers.GridSampler(values), "parallel": 1}


def test_what_is_no_number_fails_its_trial_alone(kit: Kit) -> None:
    def some(x: int) -> Any:
        return [1.5, "text", None, float("nan"), 1 / 0 if x == 4 else 2][x] if x < 5 else 3

    study = kit.study(some, trials=50, **grid(x=[0, 1, 2, 3, 4, 5]))
    study.wait(60)

    frame = study.trials().set_index("x").sort_index()
    assert list(frame["state"]) == ["complete", "failed", "failed", "failed", "failed", "complete"]  # and no more
    assert list(frame["error"]) == [
        "",
        "the objective must return a finite number, not 'text' (str)",
        "the objective must return a finite number, not None",
        "the objective must return a finite number, not nan (float)",
        "ZeroDivisionError: division by zero",
        "",
    ]


def test_a_study_whose_trials_all_fail_alike_ends_early(kit: Kit) -> None:
    def text(x: float) -> str:
        return f"{x:.3f}"

    study = kit.study(text, trials=500, parallel=2, space={"x": (0.0, 1.0)})
    with pytest.raises(
        jobkit.JobFailed, match="the first 10 trials have failed alike, so the study ends: the objective"
    ):
        study.result(60)
    assert study.best is None
    assert study.batch.wait(60)
    assert len(study.trials()) < 15


def test_a_bad_trial_is_pruned_by_what_it_logs(queued: Kit) -> None:
    def trains(x: int) -> float:
        import time

        for step in range(3000 if x > 5 else 3):
            jobkit.log_metrics(step, loss=x)
            time.sleep(0.01)
        return x

    def space(trial: optuna.Trial) -> dict[str, Any]:
        x = trial.number % 2 * 8 + 1
        return {"x": trial.suggest_int("x", x, x)}

    study = queued.study(
        trains, trials=4, parallel=2, space=space,
        pruner=optuna.pruners.ThresholdPruner(upper=5.0, n_warmup_steps=2),
    )  # fmt: skip
    assert study.wait(100)

    frame = study.trials()
    assert list(frame["state"]) == ["complete", "pruned"] * 2
    assert frame["value"].tolist() == [1.0, 9.0, 1.0, 9.0]
    assert study.optuna.trials[0].intermediate_values == {0: 1.0, 1: 1.0, 2: 1.0}
    pruned = study.batch[1]
    assert pruned.state == "cancelled"
    with pytest.raises(jobkit.JobCancelled, match="was cancelled: pruned at step 2: loss 9; stopped on request"):
        pruned.result()


def test_a_trial_may_prune_itself(kit: Kit) -> None:
    def prunes(x: int) -> float:
        if x:
            raise optuna.TrialPruned
        return 1.0

    study = kit.study(prunes, trials=4, **grid(x=[0, 1]))
    study.wait(60)
    assert dict(study.trials()[["x", "state"]].to_numpy()) == {0: "complete", 1: "pruned"}


def test_a_cancelled_study_leaves_no_open_trial(queued: Kit) -> None:
    def waits(x: float) -> float:
        import time

        time.sleep(600)
        return x

    study = queued.options(cancel_grace=1).study(waits, trials=50, parallel=6, space={"x": (0.0, 1.0)})
    wait_until(lambda: study.batch.counts.get("running"))
    assert study.cancel("enough")
    with pytest.raises(jobkit.JobCancelled, match="was cancelled: enough"):
        study.result(60)
    assert study.batch.wait(60)
    assert set(study.batch.counts) == {"cancelled"}
    assert queued.batches.info(study.id).stopped_by == study.id


def bounded(x: Annotated[float, jobkit.Range(0, 1)]) -> float:
    return x


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (lambda kit: kit.study(), "a study needs an objective, or id= of a study"),
        (lambda kit: kit.study(valley), "a study needs a space"),
        (lambda kit: kit.study(valley, space=SPACE, trials=0), "trials must be a whole number from 1 to 100000"),
        (lambda kit: kit.study(valley, space=SPACE, parallel=1001), "parallel must be a whole number from 1 to 1000"),
        (lambda kit: kit.study(valley, space=SPACE, direction="up"), "direction must be "),
        (lambda kit: kit.study(valley, space=SPACE, directions=["minimize"] * 2), "a study has one objective"),
        (lambda kit: kit.study(valley, space=SPACE, trails=3), "unknown option 'trails'.*trials"),
        (lambda kit: kit.study(valley, space={"y": (0, 1)}), r"space\['y'\] does not fit valley: unexpected"),
        (lambda kit: kit.study(valley, space={"kind": ["a"]}), "the space does not fit valley: missing argument 'x'"),
        (lambda kit: kit.study(bounded, space={"x": (0.0, 2.0)}), r"space\['x'\] does not fit bounded: x must be"),
        (
            lambda kit: kit.study(valley, space=SPACE, pruner=optuna.pruners.MedianPruner),
            r"pruner must be .* \(call it\)",
        ),
        (lambda kit: kit.study(valley, space=SPACE, sampler="tpe"), "sampler must be one of Optuna's"),
        (lambda kit: kit.study(valley, space=SPACE, metric="loss"), "so it needs pruner="),
        (lambda kit: kit.study(valley, space=SPACE, name="two\nlines"), "name must be one line"),
        (lambda kit: kit.study(valley, space=SPACE, id="no id"), "id must be"),
        (lambda kit: kit.options(key="a").study(valley, space=SPACE), "key is of one job"),
        (lambda kit: kit.studies(limit=0), "limit must be"),
    ],
)
def test_bad_input_is_refused_before_anything_is_stored(kit: Kit, begin: Callable[[Kit], Any], said: str) -> None:
    with pytest.raises(jobkit.InvalidParams, match=said):
        begin(kit)
    assert kit.jobs() == []


def test_a_study_moves_its_parameters(queued: Kit) -> None:
    study = queued.options(delay=0.3).study(valley, trials=5, parallel=1, space=SPACE)
    assert study.best is None
    assert study.optuna.trials == []
    seen: list[Any] = []
    names = ["best", "state", "completed"]
    study.param.watch(lambda *events: seen.extend((each.name, each.new) for each in events), names)
    study.wait(60)
    wait_until(lambda: ("state", "succeeded") in seen)
    assert ("best", study.best) in seen
    assert ("completed", 5) in seen
