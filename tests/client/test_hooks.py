"""Users' functions as event hooks: `kit.on`."""

from __future__ import annotations

import logging
import threading

import pytest

import jobkit
from jobkit.model import InvalidParams
from tests.support import wait_until


def test_a_hook_is_called_with_each_job_of_its_events_and_tasks(kit) -> None:
    ended: list[tuple[str, str]] = []

    @kit.on("ended", task="le*")
    def note(job: jobkit.Job) -> None:
        ended.append((job.id, str(job.state)))

    good, bad, other = kit.submit(len, "abc"), kit.submit(len, 5), kit.submit(abs, -1)
    for job in (good, bad, other):
        job.wait(60)

    wait_until(lambda: len(ended) >= 2, what="two ends")
    kit.submit(len, "the last").wait(60)
    wait_until(lambda: len(ended) >= 3, what="the last end")
    assert dict(ended[:2]) == {good.id: "succeeded", bad.id: "failed"}
    assert other.id not in dict(ended)


def test_a_hook_that_raises_is_logged_and_called_again(kit, caplog: pytest.LogCaptureFixture) -> None:
    hook = kit.on("succeeded")(lambda job: 1 / 0)

    with caplog.at_level(logging.ERROR, logger="jobkit.client"):
        for _ in range(2):
            assert kit.submit(len, "abc").result(60) == 3
        wait_until(lambda: hook.errors == 2, what="two errors")

    assert "the job is not affected" in caplog.text
    assert "2 calls, 2 errors" in repr(hook)


def test_a_hook_that_hangs_blocks_neither_jobs_nor_other_hooks_nor_close(place) -> None:
    kit = jobkit.connect(**place)
    is_over = threading.Event()
    told: list[str] = []
    hanging = kit.on("submitted")(lambda job: is_over.wait())
    kit.on("ended")(lambda job: told.append(job.id))

    jobs = [kit.submit(len, "abc") for _ in range(3)]

    assert [job.result(60) for job in jobs] == [3, 3, 3]
    wait_until(lambda: len(told) == 3, what="the other hook")
    kit.close()
    assert hanging.calls == 1
    is_over.set()


def test_a_stopped_hook_is_no_longer_called(kit) -> None:
    hook = kit.on("ended")(lambda job: None)
    kit.submit(len, "abc").wait(60)
    wait_until(lambda: hook.calls == 1, what="the first call")
    seen = threading.Event()
    hook.stop()

    kit.on("ended")(lambda job: seen.set())
    kit.submit(len, "abc").wait(60)

    assert seen.wait(60)
    assert hook.calls == 1


@pytest.mark.parametrize(
    ("events", "said"), [((), "needs an event"), (("exploded",), "not 'exploded'"), (("logged",), "not 'logged'")]
)
def test_an_unknown_event_is_refused(kit, events: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidParams, match=said):
        kit.on(*events)
