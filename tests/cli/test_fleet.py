"""Commands for workers and queues say the same as the page of workers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

import jobkit
from jobkit.cli.queues import queues
from jobkit.cli.worker import workers
from tests.ui.stage import Stage


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with contextlib.closing(Stage()) as found:
        monkeypatch.setattr(jobkit, "connect", lambda: found.kit)
        yield found


def test_a_lost_worker_is_counted_and_listed_on_demand_with_its_jobs(stage: Stage) -> None:
    stage.start(stage.submit(queue="gpu"), "gpu-1", "gpu")
    stage.beat("gpu-1", "gpu")
    stage.kill("gpu-1")

    living, every = (CliRunner().invoke(workers, options) for options in ([], ["--all"]))

    assert living.stdout == ""
    assert "0 workers, no worker takes jobs, 1 lost in the last hour" in living.stderr
    assert "lost with 1 job, last seen" in every.stdout
    assert "gpu-1 was lost with job 00000001, which waits to run again" in every.stderr


def test_queues_have_the_state_and_reason_of_the_page(stage: Stage) -> None:
    stage.submit(queue="gpu")

    shown, machine = (CliRunner().invoke(queues, options) for options in ([], ["--json"]))

    assert shown.stdout.split()[:2] == ["QUEUE", "STATE"]
    assert "gpu: 1 waits; no worker serves queue gpu: run `jobkit worker -q gpu`" in shown.stderr
    assert [(each["queue"], each["state"]) for each in json.loads(machine.stdout)] == [("gpu", "stuck")]
