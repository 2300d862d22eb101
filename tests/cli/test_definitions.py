"""A worker with other code has published its definition of a task that a module here defines, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkit.cli.queues import read_call
from jobkit.client.loop import background
from jobkit.codec import Codec
from jobkit.features.doctor.commands import _definitions
from jobkit.model import InvalidParams
from jobkit.tasks.info import TaskInfo, sealed_definition
from jobkit.tasks.specs import ParamSpec
from jobkit.testing import MemoryKit

CODE = """
import jobkit

@jobkit.task
def slow(seconds: float = 5):
    return seconds
"""

OTHER = TaskInfo("slow", params=(ParamSpec(name="duration", kind="float", default=5.0, required=False),))


@pytest.fixture
def kit(no_tasks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryKit]:
    """Kit with a task `slow(seconds)` in a module that is not imported yet; workers know `slow(duration)`."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "tasks_of_ada.py").write_text(CODE)
    with MemoryKit(tasks=("tasks_of_ada",), secret="of these tests") as made:
        published = {"slow": sealed_definition(OTHER.to_json(), made.verbs.codec)}
        background.call(made.verbs.store.publish_tasks(published))
        yield made
    sys.modules.pop("tasks_of_ada", None)


def test_arguments_that_fit_the_task_here_are_submitted(kit: MemoryKit) -> None:
    task, values = read_call(kit, "slow", ["seconds=.2"])

    assert values == {"seconds": 0.2}
    assert kit.submit(task, **values).result(60) == 0.2


def test_arguments_that_fit_neither_are_refused_with_the_parameters_here(kit: MemoryKit) -> None:
    with pytest.raises(InvalidParams, match="the parameters are: seconds"):
        read_call(kit, "slow", ["n=1"])


def test_arguments_of_the_published_task_need_no_module_here(kit: MemoryKit) -> None:
    assert read_call(kit, "slow", ["duration=1"]) == ("slow", {"duration": 1.0})
    assert "tasks_of_ada" not in sys.modules


def test_doctor_names_both_definitions_of_a_task(kit: MemoryKit) -> None:
    sealed = sealed_definition(OTHER.to_json(), Codec.from_secret(kit.settings.secret))

    [finding] = _definitions(kit.settings, {"slow": sealed})

    assert finding.level == "warn"
    assert "slow(seconds=5) here is slow(duration=5) of the worker" in finding.text
