"""Searches for the best arguments of an objective, by Optuna: `kit.study(...)`, `kit.studies`.

For: people who tune. A study is a job, which asks Optuna for trials, submits each as a job and hears how it ends
(`controller`); its batch has the trials, and is led by that job (`led`, and `led_card` for its card).
In Redis: the journal of the job, `journal:{id}`, from which `storage` makes Optuna's storage.
Promise: a trial is submitted once and counted once, however often the process of the study dies. With the study's job
end its open trials, unless it has succeeded.
"""

from __future__ import annotations

from jobkit.feature import Feature

FEATURE = Feature(
    name="studies",
    parts=frozenset({"led", "led_card"}),
    leads="study",
    lists=("journal",),
    after=("metrics", "batches"),
)
