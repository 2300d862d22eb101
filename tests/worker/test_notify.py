"""Notifications by webhook, command and OpenTelemetry: each is sent once and blocks no other."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jobkit.notify.notifier import Notifier
from jobkit.notify.sinks import DeliveryRefused
from jobkit.settings import Settings
from jobkit.store.redis import RedisStore
from tests.support import wait_until
from tests.worker.conftest import Bench
from tests.worker.receiver import Receiver


def test_a_webhook_gets_event_job_sentence_and_signature(bench: Bench) -> None:
    with Receiver() as receiver:
        rule = {"on": ["failed"], "task": "le*", "url": receiver.url, "secret": "shared"}
        bench.worker(JOBKIT_NOTIFY=json.dumps([rule]))
        bench.kit.submit(len, "abc").wait(60)
        bench.kit.submit(abs, "no number").wait(60)
        failed = bench.kit.submit(len, 5)
        failed.wait(60)

        (body,) = wait_until(lambda: receiver.bodies, what="the webhook")
        told = json.loads(body)

    assert told["job"]["id"] == told["event"]["job_id"] == failed.id
    assert (told["event"]["type"], told["job"]["state"]) == ("failed", "failed")
    assert " failed after " in told["text"]
    assert told["text"].endswith(f"(job {failed.id[:8]})")
    (headers,) = receiver.headers
    assert headers["X-Jobkit-Event"] == "failed"
    assert headers["X-Jobkit-Signature"] == "sha256=" + hmac.new(b"shared", body, hashlib.sha256).hexdigest()


@pytest.mark.nightly
def test_one_worker_sends_notifications_and_another_takes_over(bench: Bench) -> None:
    with Receiver(answers=[503]) as receiver:
        rule = json.dumps([{"on": "succeeded", "url": receiver.url}])
        first = bench.worker(JOBKIT_NOTIFY=rule)
        bench.worker(JOBKIT_NOTIFY=rule)
        jobs = [bench.kit.submit(len, "abc")]  # refuses its message once
        jobs[0].wait(60)
        wait_until(lambda: receiver.bodies, what="the second try")
        first.terminate()
        first.wait(60)
        jobs += [bench.kit.submit(len, "abc") for _ in range(3)]

        wait_until(lambda: len(receiver.bodies) >= 4, what="all four")

    told = [json.loads(body)["job"]["id"] for body in receiver.bodies]
    assert told[0] == jobs[0].id
    assert sorted(told) == sorted(job.id for job in jobs)


def test_a_redirect_is_not_followed_and_a_refusal_blocks_no_other_message(bench: Bench) -> None:
    with Receiver(answers=[302, 410]) as receiver:
        bench.worker(JOBKIT_NOTIFY=json.dumps([{"on": "succeeded", "url": receiver.url}]))
        jobs = [bench.kit.submit(len, "abc") for _ in range(3)]
        for job in jobs:
            assert job.result(60) == 3
        wait_until(lambda: receiver.bodies, what="the third")

    assert len(receiver.bodies) == 1
    assert "it answers 302" in bench.said()
    assert "it answers 410" in bench.said()
    assert "/hook" not in bench.said()  # a webhook's path is its secret


def test_a_command_gets_the_message_and_one_that_fails_is_named(bench: Bench, tmp_path: Path) -> None:
    write = f"open({str(tmp_path / 'told')!r}, 'a').write(os.environ['JOBKIT_EVENT'] + sys.stdin.read() + chr(10))"
    code = f"import os, sys; {write}"
    rules = [
        {"on": "ended", "command": [sys.executable, "-c", code]},
        {"on": "ended", "command": ["no-such-program"]},
        {"on": "ended", "command": [sys.executable, "-c", "raise SystemExit(7)"]},
    ]
    bench.worker(JOBKIT_NOTIFY=json.dumps(rules))

    job = bench.kit.submit(len, "abc")
    job.wait(60)

    (line,) = wait_until(lambda: bench.notes("told"), what="the command")
    assert line.startswith("succeeded{")
    assert json.loads(line.removeprefix("succeeded"))["job"]["id"] == job.id
    wait_until(lambda: "it ended with status 7" in bench.said(), what="the failure to be named")
    assert "no-such-program was not notified" in bench.said()


def test_opentelemetry_gets_a_trace_of_a_job_and_its_attempts_below_the_submitters_span(bench: Bench) -> None:
    trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    from opentelemetry import trace

    submitter = trace.SpanContext(0xAB, 0xCD, is_remote=False, trace_flags=trace.TraceFlags(1))

    def spans_of(bodies: list[bytes]) -> list[Any]:
        """Return all three spans, which may come in several requests, or none."""
        requests = [trace_service.ExportTraceServiceRequest.FromString(body) for body in bodies]
        spans = [span for each in requests for span in each.resource_spans[0].scope_spans[0].spans]
        return spans if len(spans) == 3 else []

    with Receiver() as receiver:
        worker = bench.worker(
            JOBKIT_OTEL="1",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=receiver.url,
            OTEL_EXPORTER_OTLP_COMPRESSION="none",
            OTEL_BSP_SCHEDULE_DELAY="100",
        )
        with trace.use_span(trace.NonRecordingSpan(submitter)):
            job = bench.kit.options(retries=1, backoff=0, tags=["nightly"]).submit(len, 5)
        job.wait(60)
        spans = wait_until(lambda: spans_of(receiver.bodies), what="the spans of the job and of both attempts")
        worker.terminate()
        worker.wait(60)

    whole = next(span for span in spans if span.name == "job len")
    runs = [span for span in spans if span.name == "run len"]
    facts = {one.key: one.value for one in whole.attributes}
    assert facts["messaging.message.id"].string_value == job.id
    assert facts["error.type"].string_value == "TypeError"
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (f"{0xAB:032x}", f"{0xCD:016x}")
    assert [span.parent_span_id for span in runs] == [whole.span_id] * 2
    assert all(whole.start_time_unix_nano <= run.start_time_unix_nano <= whole.end_time_unix_nano for run in runs)


def test_log_lines_can_be_json_and_name_their_job(bench: Bench) -> None:
    bench.worker(JOBKIT_LOG_FORMAT="json")
    job = bench.kit.submit(len, 5)
    job.wait(60)

    lines = wait_until(
        lambda: [line for line in map(json.loads, bench.said().splitlines()) if line.get("job_id")], what="a line"
    )
    assert lines[0]["job_id"] == job.id
    assert (lines[0]["level"], lines[0]["logger"]) == ("info", "jobkit.worker")
    assert lines[0]["time"].endswith("Z")


async def test_a_receiver_that_is_away_for_45_s_loses_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    notifier, seconds, tries = Notifier(RedisStore(Settings(url="redis://127.0.0.1:1")), []), [0.0], list[float]()

    async def wait(pause_s: float) -> bool:
        seconds.append(pause_s)
        return True

    async def send() -> None:
        tries.append(sum(seconds))
        if tries[-1] < 45:
            raise DeliveryRefused("HTTP 500")

    monkeypatch.setattr(notifier, "_leads_for", wait)
    await notifier._deliver("a webhook", "that job x failed", send)

    assert tries[-1] >= 45
    assert not notifier._away
