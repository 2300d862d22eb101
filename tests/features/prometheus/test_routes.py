"""Metrics for Prometheus over HTTP: their format, outcomes and run times."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from jobkit.client.loop import background
from jobkit.features.prometheus.endings import MOST_TASKS, Endings
from jobkit.features.prometheus.routes import exposition
from jobkit.model import JobSnapshot, JobSpec, JobState
from tests.http.conftest import _own_registry as _own_registry
from tests.http.conftest import http as http
from tests.http.conftest import kit as kit
from tests.http.conftest import redis_server as redis_server
from tests.http.conftest import serve as serve
from tests.http.conftest import site as site
from tests.http.conftest import stage as stage
from tests.http.test_rest import submit
from tests.ui.stage import Stage


def test_prometheus_can_read_the_metrics(http: httpx.Client, stage: Stage) -> None:
    job = submit(http, queue="gpu")
    stage.start(job["id"], worker="gpu-1", queue="gpu")
    background.call(stage.store.renew("gpu-1", {}, {"queues": "gpu", "slots": 2, "running": 1}))
    answer = http.get("/api/metrics")

    families = {family.name: family for family in text_string_to_metric_families(answer.text)}

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert {s.labels["state"]: s.value for s in families["jobkit_jobs"].samples}["running"] == 1
    assert [s.labels for s in families["jobkit_worker_running"].samples] == [{"worker": "gpu-1"}]
    routes = {(s.labels["route"], s.labels["status"]): s.value for s in families["jobkit_http_requests"].samples}
    assert routes["/api/jobs", "202"] == 1


def test_metrics_count_outcomes_and_run_times_of_each_task(http: httpx.Client, stage: Stage) -> None:
    http.get("/api/metrics")  # it counts from here
    jobs = [submit(http)["id"] for _ in range(3)]
    stage.start(jobs[0])
    stage.succeed(jobs[0])
    stage.start(jobs[1])
    stage.fail(jobs[1])
    http.post(f"/api/jobs/{jobs[2]}/cancel")
    http.get("/api/metrics")
    answer = http.get("/api/metrics")  # none twice

    families = {family.name: family for family in text_string_to_metric_families(answer.text)}

    outcomes = {(s.labels["state"], s.labels["kind"]): s.value for s in families["jobkit_task_jobs"].samples}
    assert outcomes == {("succeeded", ""): 1, ("failed", "exception"): 1, ("cancelled", ""): 1}
    times = families["jobkit_task_duration_seconds"]
    assert times.type == "histogram"
    (task,) = {s.labels["task"] for s in times.samples}
    buckets = [s.value for s in times.samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 2  # one never started
    assert {s.name.rpartition("_")[2]: s.value for s in times.samples if "le" not in s.labels}["count"] == 2
    assert task in {s.labels["task"] for s in families["jobkit_task_jobs"].samples}


def test_metrics_have_labels_for_so_many_tasks_only() -> None:
    endings = Endings()
    for n in range(MOST_TASKS + 5):
        endings._count(JobSnapshot(JobSpec("a", f"task{n}"), 3, JobState.SUCCEEDED))

    assert len(endings.outcomes) == MOST_TASKS + 1
    assert endings.outcomes["other", "succeeded", ""] == 5


def test_labels_of_metrics_are_escaped() -> None:
    odd = 'w"\n\\1'
    text = exposition([("worker_running", "gauge", "Running jobs of a worker.", [({"worker": odd}, 1)])])

    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert [sample.labels for sample in families["jobkit_worker_running"].samples] == [{"worker": odd}]
