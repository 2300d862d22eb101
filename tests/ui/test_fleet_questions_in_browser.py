"""Three questions of a team about its machines, from the first page to the answer in two clicks at most."""

from __future__ import annotations

import msgspec
import pytest

from jobkit.client.loop import background
from jobkit.model.load import Spark, Usage, WorkerLoad
from jobkit.store.values import WorkerInfo
from tests.support import wait_until
from tests.ui.conftest import Window, text_of
from tests.ui.stage import Stage

pytestmark = pytest.mark.browser


@pytest.fixture
def fleet(stage: Stage) -> dict[str, str]:
    """Jobs by title: one on each of two hosts, the one of `node-b` with more memory; and two that need two GPUs."""
    jobs = {title: stage.submit("train", title=title, queue=f"on {title}") for title in ("small", "large")}
    for (title, job), host, mib in zip(jobs.items(), ("node-a", "node-b"), (100, 900), strict=True):
        stage.start(job, f"{host}.1", f"on {title}")
        use = Usage(Spark.of([10.0], 100), Spark.of([50.0, float(mib)]))
        load = msgspec.json.encode(WorkerLoad(whole=use, jobs={job: use})).decode()
        stage.beat(f"{host}.1", f"on {title}", 2, host=host, rss=mib * 2**20, memory=2**31, load=load)
    jobs |= {f"two {n}": stage.submit("train", queue="gpu", resources={"gpu": 2}) for n in range(2)}
    background.call(stage.store.claim(WorkerInfo("node-a.2", queues=("gpu",), resources={"gpu": 1}), 1))
    stage.beat("node-a.2", "gpu", 1, host="node-a", has='{"gpu": 1}')
    return jobs


def test_is_the_gpu_queue_stuck_and_why(fleet: dict[str, str], url: str, window: Window) -> None:
    page = window.open(url, width=1440)

    page.click(".tab:has-text('Workers')")

    page.wait_for_selector("th:has(.name:text-is('gpu')) .chip:text-is('Stuck')")
    assert text_of(page, "tbody tr .name") == "gpu"  # stuck ones come first
    assert text_of(page, "tbody tr .why") == (
        "2 wait: no worker offers gpu=2, the most is 1; jobkit worker --resources gpu=2"
    )


def test_what_runs_on_a_host(fleet: dict[str, str], url: str, window: Window, stage: Stage) -> None:
    lost = stage.submit("train", title="again", queue="other")
    stage.start(lost, "node-b.2", "other")
    stage.beat("node-b.2", "other", host="node-b")
    stage.kill("node-b.2")
    page = window.open(url, width=1440)

    page.click(".tab:has-text('Workers')")

    host = "[aria-label='Host node-b']"
    page.wait_for_selector(f"{host} .sum:text-is('1 worker, 1 of 2 slots busy, 1 lost in the last hour')")
    assert page.locator(f"{host} .worker").count() == 2
    assert text_of(page, f"{host} .worker[data-state=lost] .chip") == "Lost"
    assert text_of(page, f"{host} .became").endswith("waits to run again")
    page.click(f"{host} .job:text-is('large')")
    page.wait_for_selector(".jk-card .title:has-text('large')")


def test_what_uses_memory(fleet: dict[str, str], url: str, window: Window) -> None:
    page = window.open(url, width=1440)

    page.click(".tab:has-text('Workers')")

    page.wait_for_selector(".most:has-text('Most memory: large, 944 MB on node-b')")
    assert text_of(page, ".host .has").split("\n") == ["CPU 0 %", "memory 105 MB of 2.1 GB", "gpu 0 of 1"]
    page.click("[role=radio]:text-is('Memory')")
    wait_until(lambda: text_of(page, ".host h3") == "node-b", what="the host with the most memory to come first")
