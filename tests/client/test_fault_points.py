"""A client dies, is cut off or delayed directly before or after the reply to its submit: no second job is stored."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

import jobkit
from jobkit.client.kit import Kit
from tests import faults
from tests.support import environment
from tests.worker import jobs

from .conftest import own_kit, own_place, struck_kit

MOMENTS = ("before_send", "before_reply", "after_reply")

PROGRAM = """
import sys
import jobkit
from tests import faults
from tests.worker import jobs
faults.arm(sys.argv[1])
with jobkit.connect() as kit:
    print(kit.options(key="nightly").submit(jobs.count_up, 1).id)
"""


place = pytest.fixture(own_place, name="place")
kit = pytest.fixture(own_kit, name="kit")
struck = pytest.fixture(struck_kit, name="struck")

EVERY = [f"submit:{moment}:{what}" for moment in MOMENTS for what in ("drop", "delay=0.2")]


@pytest.mark.parametrize("struck", [fault for fault in EVERY if "after" not in fault], indirect=True)
def test_a_submit_that_is_cut_off_or_delayed_stores_one_job(struck: Kit, kit: Kit) -> None:
    job = struck.submit(jobs.count_up, 1)

    assert [found.id for found in kit.jobs()] == [job.id]
    assert [event.type for event in kit.snapshot(job.id).history] == ["submitted"]
    assert faults.armed[0].left == 0


@pytest.mark.parametrize("struck", [fault for fault in EVERY if "after" not in fault], indirect=True)
def test_a_submit_of_a_coroutine_that_is_cut_off_or_delayed_stores_one_job(struck: Kit, kit: Kit) -> None:
    job = asyncio.run(struck.aio.submit(jobs.count_up, 1))  # type: ignore[arg-type]  # a coroutine

    assert [found.id for found in kit.jobs()] == [job.id]
    assert faults.armed[0].left == 0


@pytest.mark.parametrize("struck", EVERY, indirect=True)
def test_each_job_of_a_bulk_submit_is_stored_once(struck: Kit, kit: Kit) -> None:
    batch = struck.map(jobs.count_up, [{"n": n} for n in range(20)])

    assert {found.id for found in kit.jobs()} == {job.id for job in batch.jobs}
    assert kit.counts()["queued"] == 20
    assert faults.armed[0].left == 0


@pytest.mark.parametrize("struck", ["cancel:before_reply:drop", "cancel:before_send:drop"], indirect=True)
def test_a_cancel_with_a_lost_reply_raises_and_may_be_repeated(struck: Kit, kit: Kit) -> None:
    job = struck.submit(jobs.count_up, 1)

    with pytest.raises(jobkit.StoreUnavailable):
        job.cancel()
    job.cancel()

    assert job.wait(60)
    assert [event.type for event in kit.snapshot(job.id).history] == ["submitted", "cancelled"]


@pytest.mark.parametrize("moment", MOMENTS[:2])
def test_a_client_that_dies_at_its_submit_and_starts_again_with_the_key_has_one_job(
    moment: str, place: dict[str, str], kit: Kit
) -> None:
    names = {f"JOBKIT_{name.upper()}": value for name, value in place.items()}

    def run(fault: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROGRAM, fault]
        return subprocess.run(command, env=environment(**names), capture_output=True, text=True, check=False)

    first = run(f"submit:{moment}:kill")
    accepted = [job.id for job in kit.jobs()]
    second = run()

    assert first.returncode == -signal.SIGKILL
    assert len(accepted) == (moment != "before_send")
    [job] = kit.jobs()
    assert second.stdout.split() == [job.id]
    assert accepted in ([], [job.id])


def test_an_invalid_fault_is_refused() -> None:
    for text in ("finish", "finish:now:kill", "finish:before_send:burn", "finish:before_send:kill:x"):
        with pytest.raises(ValueError, match="."):
            faults.parse(text)
