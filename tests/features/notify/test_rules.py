"""Notifications by webhook, command and OpenTelemetry: each is sent once and blocks no other."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import jobkit.features.notify.store
from jobkit.client.loop import background
from jobkit.features.notify.doctor import refusals
from jobkit.features.notify.notifier import Notifier, pause_s
from jobkit.features.notify.rule import NotifyRule
from jobkit.features.notify.sinks import DeliveryRefused, Webhook, message_of
from jobkit.features.notify.store import ToldStore, Unsent
from jobkit.model import EventType, JobEvent, JobSnapshot, JobSpec, JobState
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


async def test_a_sink_whose_messages_are_not_kept_gets_tries_for_45_s(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_pauses_between_tries_grow_to_a_quarter_of_an_hour() -> None:
    pauses = [pause_s(tries) for tries in range(1, 110)]

    assert pauses[:4] == [1, 2, 4, 8]
    assert pauses == sorted(pauses)
    assert max(pauses) == pause_s(10**6) == 900
    assert sum(pauses) > 86_400 > sum(pauses[:-20])


def failure(id: str) -> tuple[JobEvent, JobSnapshot]:
    return JobEvent(id, 1, EventType.FAILED, 1, id="1-1"), JobSnapshot(JobSpec(id, "len"), 1, JobState.FAILED)


class Post:
    """A webhook and its notifiers, whose clock the test moves."""

    def __init__(self, bench: Bench, receiver: Receiver) -> None:
        self.store, self.settings, self.clock = bench.kit.verbs.store, bench.kit.settings, datetime.now(UTC)
        self.rule = NotifyRule.read({"url": receiver.url})
        self.restart()

    def restart(self) -> None:
        """Begin with a notifier of another process, which is the leader now."""
        background.call(self.store.ask("DEL", "teller"))
        self.notifier = Notifier(self.store, [Webhook(self.rule, self.settings)], now=lambda: self.clock)

    def fail(self, *ids: str) -> None:
        """Hand over that these jobs have failed."""
        for id in ids:
            for send in self.notifier._sends(*failure(id)):
                background.call(send())

    def repeat(self, after_s: float = 0) -> dict[str, Unsent]:
        """Send what waits, so many seconds later; return the state of addresses that did not accept it."""
        self.clock += timedelta(seconds=after_s)
        background.call(self.notifier.deliver_held())
        return background.call(self.store.part(ToldStore).unsent())


def told(receiver: Receiver) -> list[str]:
    return [json.loads(body)["job"]["id"] for body in receiver.bodies]


def test_what_a_webhook_did_not_accept_outlives_the_worker_and_is_sent_in_order(bench: Bench) -> None:
    with Receiver(answers=[500] * 7) as receiver:
        post = Post(bench, receiver)
        post.fail("first", "second")
        assert len(receiver.answers) == 6  # the second one waits for the first
        for tries in range(1, 6):
            (state,) = post.repeat(pause_s(tries)).values()
            assert (state.tries, state.why) == (tries + 1, "it answers 500")
        post.restart()
        post.repeat(pause_s(6) / 2)  # not yet
        post.fail("third")
        assert (len(receiver.answers), told(receiver)) == (1, [])
        receiver.answers.clear()

        assert post.repeat(pause_s(6) / 2) == {}
        post.fail("fourth")

    assert told(receiver) == ["first", "second", "third", "fourth"]
    assert [headers["X-Jobkit-Event"] for headers in receiver.headers] == ["failed"] * 4


def test_after_a_day_the_log_and_doctor_say_what_is_lost(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with Receiver(answers=[503] * 3) as receiver:
        post = Post(bench, receiver)
        post.fail("old", "older")
        post.clock += timedelta(hours=20)
        post.fail("new")
        (state,) = post.repeat(5 * 3600).values()

        assert state.lost == 2
        assert "127.0.0.1 was not notified of 2 events within a day: it answers 503" in caplog.messages
        (found,) = refusals([state])
        assert (found.level, found.check) == ("warn", "notify")
        assert found.text.endswith(": it answers 503, 2 messages lost")
        receiver.answers.clear()
        assert post.repeat(900) == {}

    assert told(receiver) == ["new"]


@pytest.mark.parametrize(("limit", "value"), [("_HELD", 2), ("_HELD_BYTES", 0)])
def test_messages_beyond_a_limit_are_dropped_from_the_oldest_on_and_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: str, value: int
) -> None:
    with Receiver(answers=[500]) as receiver:
        post = Post(bench, receiver)
        if not value:
            value = int(2.5 * len(message_of(*failure("1"))))
        monkeypatch.setattr(jobkit.features.notify.store, limit, value)
        post.fail("1", "2", "3", "4", "5")
        (state,) = background.call(post.store.part(ToldStore).unsent()).values()
        assert state.lost == 3
        assert post.repeat(1) == {}

    assert told(receiver) == ["4", "5"]
    assert caplog.messages.count("too many notifications wait for 127.0.0.1: the oldest are dropped") == 1
