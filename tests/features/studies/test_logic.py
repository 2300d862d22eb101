"""Studies without a store: spaces, and the loop of their job, killed after each of its steps."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from jobkit.client.submit_verbs import SubmitVerbs
from jobkit.codec import Codec
from jobkit.features.studies.controller import Controller, is_reported
from jobkit.features.studies.space import checked_space, quiet, sample_of, sampler_of
from jobkit.features.studies.storage import storage_of
from jobkit.features.studies.trial_jobs import TrialEnd
from jobkit.model import InvalidParams, JobkitError

SPACE = {"lr": (1e-4, 0.1, "log"), "layers": (1, 8), "opt": ["adam", "sgd", None]}


def test_a_space_of_ranges_and_lists_gives_numbers_and_choices() -> None:
    sent, distributions = checked_space(
        {**SPACE, "drop": (0, 0.5), "own": optuna.distributions.IntDistribution(0, 9, step=3)}
    )

    kinds = {name: type(each).__name__.removesuffix("Distribution") for name, each in distributions.items()}
    assert kinds == {"lr": "Float", "layers": "Int", "opt": "Categorical", "drop": "Float", "own": "Int"}
    sample = sample_of(sent)
    assert 1e-4 <= sample["lr"] <= 0.1
    assert sample["layers"] in range(1, 9)
    assert sample["opt"] in SPACE["opt"]
    assert sample["own"] in (0, 3, 6, 9)


def test_a_function_of_a_trial_is_a_space() -> None:
    def space(trial: optuna.Trial) -> dict[str, Any]:
        return {"sizes": [trial.suggest_int(f"size{i}", 1, 4) for i in range(2)], "flag": True}

    sample = sample_of(checked_space(space)[0])
    assert len(sample["sizes"]) == 2
    assert sample["flag"] is True


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (None, "a study needs a space: a dict like"),
        (5, "that returns the arguments of the objective, not 5"),
        ({}, "space is empty"),
        ({"a b": (0, 1)}, "space names arguments of the objective, not 'a b'"),
        ({"x": (1, 0)}, r"space\['x'\] begins at 1, above its end 0"),
        ({"x": (0, 1, "log")}, "so it must begin above 0, not at 0"),
        ({"x": (0, 1, "linear")}, r"space\['x'\] must be \(low, high\)"),
        ({"x": (0, float("inf"))}, "must be"),
        ({"x": (True, False)}, "must be"),
        ({"x": "adam"}, "must be"),
        ({"x": []}, "is an empty list"),
        ({"x": [object()]}, "may choose among numbers, texts, True, False and None"),
    ],
)
def test_what_is_no_space_is_refused_with_a_sentence(space: Any, said: str) -> None:
    with pytest.raises(InvalidParams, match=said):
        checked_space(space)


@pytest.mark.parametrize(("returned", "said"), [(3, "must return a dict"), ({"x": object()}, "returned .* for 'x'")])
def test_a_function_that_gives_no_arguments_is_refused(returned: Any, said: str) -> None:
    with pytest.raises(JobkitError, match=said):
        sample_of(lambda trial: returned)


def test_reported_steps_are_the_same_in_each_trial_and_bounded() -> None:
    assert all(map(is_reported, range(1000)))
    assert [step for step in range(1000, 1100) if is_reported(step)] == list(range(1000, 1100, 10))
    assert sum(map(is_reported, range(100_000))) == 2_800
    assert not is_reported(-1)


class Killed(BaseException):
    """The process of the study ends here."""


class World:
    """Journal and jobs of a study, which outlive its process.

    Attributes:
        jobs: arguments by number. cancelled: numbers of cancelled jobs. steps: number of changes so far; the process is
            killed instead of the one numbered `kill_at`.
    """

    def __init__(self, kill_at: int = -1) -> None:
        self.journal: list[bytes] = []
        self.jobs: dict[int, dict[str, Any]] = {}
        self.cancelled: set[int] = set()
        self.steps, self.kill_at = 0, kill_at

    def step(self) -> None:
        if self.steps == self.kill_at:
            raise Killed
        self.steps += 1

    def append(self, known: int, entries: Any) -> int:
        if known > len(self.journal):
            return len(self.journal)
        assert known == len(self.journal)
        for entry in entries:
            self.step()
            self.journal.append(entry.encode())
        return len(self.journal)

    def study(self, trials: int, parallel: int = 3, metric: str | bool = True) -> tuple[optuna.Study, Controller]:
        with quiet():
            study = optuna.create_study(
                storage=storage_of("s", lambda start: self.journal[start:], self.append), study_name="s",
                sampler=optuna.samplers.RandomSampler(), pruner=optuna.pruners.ThresholdPruner(upper=3.0),
                load_if_exists=True,
            )  # fmt: skip
        self.shown: list[int] = []
        show = lambda trial: self.shown.append(trial.number)  # noqa: E731
        arguments_of = sampler_of(checked_space(SPACE)[0])
        return study, Controller(study, arguments_of, Process(self), trials, parallel, metric, show)


class Process:
    """The jobs as the process of a study sees them."""

    def __init__(self, world: World) -> None:
        self.world, self.news = world, list[int]()

    def start(self, number: int, arguments: Mapping[str, Any]) -> None:
        known = self.world.jobs.get(number)
        if known is None:
            self.world.step()
            self.world.jobs[number] = dict(arguments)
        else:
            assert known == arguments, "the job of a trial has other arguments than its trial"
        self.news.append(number)

    def next(self, *, blocks: bool) -> int | None:
        return self.news.pop(random.randrange(len(self.news))) if blocks else None

    def points(self, number: int) -> Mapping[str, list[tuple[float, float]]]:
        return {"loss": [(step, float(step * (number % 3 == 2))) for step in range(5)]}

    def cancel(self, number: int, reason: str) -> None:
        assert reason == "pruned at step 4: loss 4"
        self.world.step()
        self.world.cancelled.add(number)
        self.news.append(number)

    def end(self, number: int) -> TrialEnd | None:
        if number % 3 == 2:
            return TrialEnd("pruned") if number in self.world.cancelled else None
        return TrialEnd("failed", error="it broke") if number % 3 == 1 else TrialEnd("complete", float(number))

    def forget(self, number: int) -> None:
        pass


def test_a_study_killed_after_any_step_ends_with_exactly_its_trials() -> None:
    whole = World()
    whole.study(7)[1].run()
    assert whole.steps > 60

    for kill_at in range(whole.steps):
        world = World(kill_at)
        with pytest.raises(Killed):
            world.study(7)[1].run()
        world.kill_at = -1
        study, controller = world.study(7)
        controller.run()

        trials = study.get_trials()
        assert [trial.number for trial in trials] == sorted(world.jobs) == sorted(world.shown) == list(range(7))
        assert [trial.params for trial in trials] == [world.jobs[trial.number] for trial in trials]
        assert [trial.state.name for trial in trials] == [*["COMPLETE", "FAIL", "PRUNED"] * 2, "COMPLETE"]
        assert world.cancelled == {2, 5}
        assert trials[2].intermediate_values == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}
        assert trials[1].user_attrs == {"error": "it broke"}


def test_never_more_trials_are_open_than_may_be() -> None:
    world = World()
    study, controller = world.study(20, parallel=4)
    most = 0

    def count(trial: Any) -> None:
        nonlocal most
        most = max(most, len(controller._open) + 1)

    controller._show = count
    controller.run()
    assert most == 4
    assert len(study.get_trials()) == 20


def test_a_study_ends_if_its_first_trials_fail_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    _, controller = world.study(50)
    fails = lambda self, number: TrialEnd("failed", error=f"ValueError: {number / 7} is no size")  # noqa: E731
    monkeypatch.setattr(Process, "end", fails)
    with pytest.raises(JobkitError, match="the first 10 trials have failed alike, so the study ends: ValueError: "):
        controller.run()
    assert len(world.jobs) == 12

    with pytest.raises(JobkitError, match="the first 10 trials have failed alike"):  # in its next attempt, too
        world.study(50)[1].run()


def test_several_metrics_need_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    curves: Mapping[str, Any] = {"loss": [(0, 9.0)], "acc": [(0, 0.5)]}
    monkeypatch.setattr(Process, "points", lambda self, number: curves)
    with pytest.raises(JobkitError, match=r"log several metrics \(acc, loss\): say which .* like metric='acc'"):
        World().study(5)[1].run()
    study, controller = World().study(1, metric="acc")
    controller.run()
    assert study.get_trials()[0].intermediate_values == {0: 0.5}


def test_what_a_study_lacks_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "optuna", None)
        with pytest.raises(JobkitError, match=r'need Optuna, .*: pip install "panel-jobkit\[optuna\]"'):
            checked_space(SPACE)
    unsigned = Codec.from_secret("")
    submitter = SimpleNamespace(
        kit=None, connection=SimpleNamespace(ensure_open=lambda: None), origin=SimpleNamespace(codec=unsigned),
        over=SimpleNamespace(id=""),
    )  # fmt: skip
    with pytest.raises(JobkitError, match="studies need a signing key: set JOBKIT_SECRET"):
        SubmitVerbs.study(SimpleNamespace(submitter=submitter), len, space=SPACE)


def test_a_study_writes_again_what_its_server_has_lost() -> None:
    world = World()
    study, controller = world.study(7)
    show, controller._show = controller._show, lambda trial: (show(trial), world.journal.__delitem__(slice(-9, None)))
    controller.run()

    study.set_user_attr("more", 1)
    again = world.study(7)[0]
    assert [trial.state.name for trial in again.get_trials()] == [*["COMPLETE", "FAIL", "PRUNED"] * 2, "COMPLETE"]
    assert again.get_trials() == study.get_trials()


def test_only_one_attempt_can_write_a_journal() -> None:
    world = World()
    study, _ = world.study(5)
    storage = storage_of("s", lambda start: world.journal[start:], lambda known, entries: -1)
    other = optuna.load_study(study_name="s", storage=storage)
    with pytest.raises(JobkitError, match="goes on in another attempt"):
        other.ask()
    reader = optuna.load_study(study_name="s", storage=storage_of("s", lambda start: world.journal[start:]))
    study.ask()
    assert len(reader.get_trials()) == 1
    with pytest.raises(JobkitError, match="only its own job writes study s"):
        reader.ask()
    world.journal.append(b"no JSON")
    with pytest.raises(JobkitError, match="the journal of study s is damaged"):
        reader.get_trials()
