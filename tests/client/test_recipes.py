"""The recipes in `docs/how-to/metrics.md` for users of other libraries run as they are printed."""

from __future__ import annotations

import inspect
import re
import sys
import types
from typing import Any

import numpy as np
import pytest

import jobkit
from tests.support import ROOT

PAGE = (ROOT / "docs" / "how-to" / "metrics.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


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

    assert metrics_of(run) == {"loss/train": 0.5, "train/acc": 0.9, "val/acc": 0.8}


@pytest.mark.parametrize("name", ["add_scalar", "add_scalars", "add_figure"])
def test_the_summary_writer_takes_what_a_real_one_takes(name: str) -> None:
    real = getattr(pytest.importorskip("tensorboardX").SummaryWriter, name)
    ours = getattr(made("class SummaryWriter")["SummaryWriter"], name)

    inspect.signature(ours).bind(**dict.fromkeys(inspect.signature(real).parameters))


@pytest.mark.parametrize(("library", "base"), [("keras", "callbacks.Callback"), ("lightning", "Callback")])
def test_callbacks_log_what_their_trainer_knows(library: str, base: str) -> None:
    """With stand-ins of the libraries, which are large."""
    kind = type("Callback", (), {})
    module = types.SimpleNamespace(Callback=kind, callbacks=types.SimpleNamespace(Callback=kind))
    curves = made(f"class Curves({library}.{base})", **{library: module})["Curves"]()

    def run() -> None:
        if library == "keras":
            curves.on_epoch_end(3, {"loss": 0.5, "val_loss": 0.6})
        else:
            trainer = types.SimpleNamespace(global_step=7, callback_metrics={"loss": 0.5, "val/loss": 0.6})
            curves.on_validation_epoch_end(trainer, None)

    assert metrics_of(run) == {"loss": 0.5, "val/loss": 0.6}


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
