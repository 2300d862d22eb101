"""Recipes for users of other libraries run as they are printed: those of metrics, and of web frameworks.

With stand-ins of libraries that are large, or that the extra `test` does not install.
"""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any

import numpy as np
import pytest

import jobkit
from jobkit import demo
from jobkit.connecting import default_kit
from jobkit.tasks.registry import registry
from tests.docs.reading import blocks

BLOCKS = [*blocks("docs/how-to/metrics.md", "python"), *blocks("docs/recipes/web-apps.md", "python")]


def recipe(begin: str) -> str:
    return next(block for block in BLOCKS if begin in block)


def metrics_of(run: Any) -> dict[str, float]:
    with jobkit.connect("sync://") as kit:
        job = kit.submit(run)
        assert job.state == "succeeded", job.error
        assert job.logs() == []
        return dict(job.metrics)


def made(begin: str, **names: Any) -> dict[str, Any]:
    scope: dict[str, Any] = {"jobkit": jobkit, **names}
    exec(recipe(begin), scope)
    return scope


def test_a_summary_writer_logs_scalars() -> None:
    def run() -> None:
        with made("class SummaryWriter")["SummaryWriter"]("runs/1") as writer:
            writer.add_scalar("loss/train", 0.5, 1)
            writer.add_scalars("acc", {"train": 0.9, "val": 0.8}, 1)
            writer.add_histogram("weights", [1, 2], 1)
            writer.flush()
        writer.close()

    assert metrics_of(run) == {"loss/train": 0.5, "acc/train": 0.9, "acc/val": 0.8}


@pytest.mark.parametrize("name", ["add_scalar", "add_scalars", "add_figure"])
def test_the_summary_writer_takes_what_a_real_one_takes(name: str) -> None:
    real = getattr(pytest.importorskip("tensorboardX").SummaryWriter, name)
    ours = getattr(made("class SummaryWriter")["SummaryWriter"], name)

    inspect.signature(ours).bind(**dict.fromkeys(inspect.signature(real).parameters))


@pytest.mark.parametrize(
    ("begin", "base"),
    [
        ("class Curves(keras", "callbacks.Callback"),
        ("class Curves(lightning", "Callback"),
        ("class Rounds(xgboost", "callback.TrainingCallback"),
    ],
)
def test_callbacks_log_what_their_trainer_knows(begin: str, base: str) -> None:
    module: Any = type("Callback", (), {})
    for name in reversed(base.split(".")):
        module = types.SimpleNamespace(**{name: module})
    name, library = begin.removeprefix("class ").split("(")
    curves = made(begin, **{library: module})[name]()

    def run() -> None:
        if library == "keras":
            curves.on_epoch_end(3, {"loss": 0.5, "val_loss": 0.6})
        elif library == "lightning":
            trainer = types.SimpleNamespace(global_step=7, callback_metrics={"loss": 0.5, "val/loss": 0.6})
            curves.on_validation_epoch_end(trainer, None)
        else:
            curves.after_iteration(None, 2, {"train": {"loss": [0.7, 0.5]}, "val": {"loss": [0.8, 0.6]}})

    found = metrics_of(run)
    assert list(found.values()) == [0.5, 0.6]
    assert list(found) == (["train/loss", "val/loss"] if library == "xgboost" else ["loss", "val/loss"])


def test_an_estimator_of_scikit_learn_logs_its_scores() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    data = sys.modules["sklearn"] and pytest.importorskip("sklearn.datasets")

    def run() -> None:
        X, y = data.make_classification(100, random_state=1)
        scope = {"X": X, "y": y, "X_val": X, "y_val": y, "classes": [0, 1], "SGDClassifier": linear.SGDClassifier}
        made("SGDClassifier(", **scope)

    found = metrics_of(run)
    assert found["train/acc"] == found["val/acc"] > 0.5


def test_a_callback_of_lightgbm_logs_each_round() -> None:
    log = made("def log(env)")["log"]
    env = types.SimpleNamespace(iteration=4, evaluation_result_list=[("val", "auc", 0.7, True)])

    assert metrics_of(lambda: log(env)) == {"val/auc": 0.7}


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_real_boosters_log_each_round(library: str) -> None:
    module = pytest.importorskip(library)

    def run() -> None:
        rows, labels = np.random.default_rng(1).random((60, 3)), np.arange(60) % 2
        if library == "lightgbm":
            data, log = module.Dataset(rows, labels), made("def log(env)")["log"]
            how = {"objective": "binary", "metric": "auc", "verbose": -1}
            module.train(how, data, 5, valid_sets=[data], valid_names=["val"], callbacks=[log])
        else:
            data, log = module.DMatrix(rows, labels), made("class Rounds", xgboost=module)["Rounds"]()
            how = {"objective": "binary:logistic", "eval_metric": "auc"}
            module.train(how, data, 5, evals=[(data, "val")], callbacks=[log], verbose_eval=False)

    assert metrics_of(run)["val/auc"] > 0.5


def install(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """Make a module that has these members, and the package that it is in, importable."""
    for each in filter(None, (name.rpartition(".")[0], name)):
        module = types.ModuleType(each)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, each, module)


@pytest.fixture
def known_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the task that the pages use; its module may have been imported before another test cleared the tasks."""
    monkeypatch.setitem(registry._tasks, "estimate_pi", demo.estimate_pi)


@pytest.mark.usefixtures("known_demo")
def test_views_of_django_submit_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(data: dict[str, Any], status: int = 200) -> tuple[int, dict[str, Any]]:
        return status, data

    install(monkeypatch, "django.http", JsonResponse=answer)
    install(monkeypatch, "django.views.decorators.http", require_POST=lambda view: view)
    with jobkit.connect("sync://") as kit, default_kit(kit):
        views = made("def start(request)")
        status, data = views["start"](types.SimpleNamespace(POST={"points": "2000000"}))

        assert status == 202
        assert views["read"](None, data["id"]) == (200, {"state": "succeeded", "progress": 1.0})
        assert views["read"](None, "nope")[0] == 404
        refused, error = views["start"](types.SimpleNamespace(POST={"points": "-1"}))
        assert (refused, error["error"].partition(" ")[0]) == (422, "points")


class _Session(dict[str, Any]):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


@pytest.mark.usefixtures("known_demo")
def test_a_page_of_streamlit_follows_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    pressed, shown = [True, False], list[Any]()
    with jobkit.connect("sync://") as kit:
        install(
            monkeypatch,
            "streamlit",
            cache_resource=lambda made: lambda: kit,
            session_state=_Session(),
            button=lambda text: pressed.pop(0),
            fragment=lambda run_every: lambda function: function,
            progress=lambda value, text: shown.append((value, text)),
            write=shown.append,
        )
        for _ in range(2):
            exec(recipe("st.fragment").replace("500_000_000", "2_000_000"), {})

    assert [text for each in shown if isinstance(each, tuple) for text in each[1:]] == ["succeeded", "succeeded"]
    assert shown[1]["pi"] == shown[3]["pi"] == pytest.approx(3.14, abs=0.01)
