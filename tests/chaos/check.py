"""The promises of the contract's §6, checked against the record that the jobs wrote."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from jobkit.features.studies.led import STUDY_TASK
from jobkit.model import EventType, JobCancelled, JobFailed, JobkitError, JobSnapshot
from jobkit.settings import Settings
from jobkit.store.damage import damaged, discard
from jobkit.store.query import Query
from jobkit.store.redis import RedisStore
from tests.chaos import jobs, newer, record
from tests.chaos.jobs import PERSON
from tests.chaos.onlookers import Window
from tests.chaos.outages import HEARTBEAT_S, MAX_LOSSES
from tests.chaos.record import Run
from tests.chaos.world import SETTLE_S, World
from tests.store import support

if TYPE_CHECKING:
    from tests.chaos.driver import Chaos, Sent, Watch

#: Events that record the outcome of an attempt: no other attempt may have run at the same time.
_STORED = {EventType.SUCCEEDED, EventType.FAILED, EventType.RETRIED, EventType.RELEASED}


def everything(chaos: Chaos) -> list[str]:
    """Return each broken promise as one sentence."""
    kit = chaos.kits[2]
    kept = _everything(kit)
    named: dict[str, list[JobSnapshot]] = {}
    for snapshot in kept.values():
        if snapshot.spec.task in (STUDY_TASK, jobs.valley.name):  # `jobs.search` counts them
            continue
        named.setdefault(str(snapshot.spec.params["name"]), []).append(snapshot)
    runs = record.runs(Path(chaos.path))
    problems = []
    for sent in chaos.sent.values():
        found = named.pop(sent.name, [])
        if len(found) > 1 or len(sent.ids) > 1:
            problems.append(f"{sent.name} is {len(found)} jobs, with handles of {len(sent.ids)}")
        if found and not sent.may_exist:
            problems.append(f"{sent.name} was refused, and is a job")
        if not found and sent.is_accepted:
            problems.append(f"{sent.name} was accepted, and is gone")
        for snapshot in found:
            problems += one_job(sent, snapshot, runs.pop(sent.name, []), kit)
            if chaos.pause_s < HEARTBEAT_S:  # else the machine was too busy for punctual heartbeats
                problems += price(sent, snapshot)
    problems += [f"{name} was never submitted" for name in named]
    problems += [f"{name} ran, and no store knows it" for name in runs]
    for watch in chaos.watches:
        problems += handle(watch, kept.get(watch.job.id))
    problems += specs(chaos.world.server.url, chaos.world.settings["namespace"])
    missed = list(stream(chaos.events, kept))
    return problems + missed[:5] + ([f"and so of {len(missed) - 5} jobs more"] if len(missed) > 5 else [])


def _everything(kit: Any) -> dict[str, JobSnapshot]:
    """Return all jobs of the store by id."""
    kept: dict[str, JobSnapshot] = {}
    cursor = ""
    while True:
        page = kit.page(Query(limit=200, cursor=cursor))
        kept |= {snapshot.id: snapshot for snapshot in page.jobs}
        if not (cursor := page.next_cursor):
            return kept


def outcome(kit: Any, snapshot: JobSnapshot) -> Any:
    """Return the value or the error of `result()`."""
    try:
        return kit.get(snapshot.id).result(10)
    except (JobkitError, TimeoutError) as error:
        return error


def one_job(sent: Sent, snapshot: JobSnapshot, runs: list[Run], kit: Any) -> Iterator[str]:
    """Compare one job's record, its runs, and the outcome for its submitter."""
    said = f"{sent.kind.task.name} {snapshot.id} ({sent.name})"
    ends = [
        event
        for event in snapshot.history
        if event.type in (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)
    ]
    if not snapshot.is_terminal or len(ends) != 1 or ends[0].seq != snapshot.seq:
        yield f"{said} is {snapshot.state} with {len(ends)} terminal events"
        return
    parked = sum(e.type is EventType.RELEASED and "releases" not in e.data for e in snapshot.history)
    counted = snapshot.retried + snapshot.losses + snapshot.releases + parked
    if snapshot.attempt > 1 + counted:
        yield f"{said} had {snapshot.attempt} attempts, with {counted} retries, losses, releases and waits for answers"
    if len(runs) > snapshot.attempt or len({run.attempt for run in runs}) < len(runs):
        yield f"{said} ran {len(runs)} times in {snapshot.attempt} attempts: {[run.attempt for run in runs]}"
    if snapshot.retried > snapshot.spec.retries:
        yield f"{said} was retried {snapshot.retried} times, {snapshot.spec.retries} were allowed"
    if any(run.job_id != snapshot.id for run in runs):
        yield f"{said} ran as {sorted({run.job_id for run in runs})}"
    if [event.seq for event in snapshot.history] != list(range(1, snapshot.seq + 1)):
        yield f"{said} has gaps in its history"
    yield from _overlaps(said, snapshot, runs)
    got = outcome(kit, snapshot)
    yield from _programs(said, runs)
    yield from _steps(said, runs)
    yield from _questions(said, snapshot)
    if sent.kind.tells and runs and str(snapshot.error and snapshot.error.kind) != "lost":
        yield from _last_words(said, snapshot, max(runs, key=lambda run: run.attempt), kit)
    if snapshot.state == "succeeded":
        yield from _success(said, sent, snapshot, runs, got)
    elif snapshot.state == "failed":
        yield from _failure(said, sent, snapshot, runs, got)
    else:
        if not sent.is_cancelled:
            yield f"{said} is cancelled without a request"
        if not isinstance(got, JobCancelled):
            yield f"{said} is cancelled, and its result is {got!r}"


def _overlaps(said: str, snapshot: JobSnapshot, runs: list[Run]) -> Iterator[str]:
    """Check that attempts of a job with recorded outcomes never ran at the same time."""
    stored = set()
    attempt = 0
    for event in snapshot.history:
        if event.type is EventType.STARTED:
            attempt = event.data["attempt"]
        elif event.type in _STORED:
            stored.add(attempt)
    spans = sorted((r.began, r.ended, r.attempt) for r in runs if r.attempt in stored and r.ended is not None)
    for (_, ended, one), (began, _, other) in pairwise(spans):
        if began < ended:
            yield f"{said}: attempts {one} and {other} are both on record and ran at the same time"


def _last_words(said: str, snapshot: JobSnapshot, last: Run, kit: Any) -> Iterator[str]:
    """Check that the log ends with the line that the job printed last, before what jobkit itself says there."""
    if snapshot.state == "cancelled":
        return
    end = [str(line) for line in kit.get(snapshot.id).logs(tail=5) if line.source != "jobkit"][-1:]
    if end != [f"RESULT {last.nonce}"]:
        yield f"the log of {said} ends with {end}, and its last line was 'RESULT {last.nonce}'"


def _programs(said: str, runs: list[Run]) -> Iterator[str]:
    """Check that programs have ended with the job that started them."""
    for run in runs:
        if run.has_program:
            yield f"a program of attempt {run.attempt} of {said} lives on"


def _steps(said: str, runs: list[Run]) -> Iterator[str]:
    """Check that no attempt repeats a step whose checkpoint was stored when it began."""
    for n, run in enumerate(runs):
        done = max((step for each in runs[:n] for at, step in each.saved if at < run.began), default=0)
        if run.first is not None and run.first < done:
            yield f"attempt {run.attempt} of {said} began at step {run.first}, and {done} steps were stored"


def _questions(said: str, snapshot: JobSnapshot) -> Iterator[str]:
    """Check that each question was asked once, and that its event tells who answered."""
    for kind, name in ((EventType.ASKED, "asked"), (EventType.ANSWERED, "answered")):
        keys = [event.data["key"] for event in snapshot.history if event.type is kind]
        if len(set(keys)) < len(keys):
            yield f"{said} has questions that were {name} twice: {keys}"
    strangers = {e.data["by"] for e in snapshot.history if e.type is EventType.ANSWERED} - {PERSON}
    if strangers:
        yield f"{said} was answered by {strangers}"


def price(sent: Sent, snapshot: JobSnapshot) -> Iterator[str]:
    """Check that a job paid only for what happened while it lived."""
    for name, count in (("losses", snapshot.losses), ("releases", snapshot.releases)):
        if count and name not in sent.pays:
            yield f"{sent.kind.task.name} {snapshot.id} ({sent.name}) had {count} {name}, and nothing costs any"


def _success(said: str, sent: Sent, snapshot: JobSnapshot, runs: list[Run], outcome: Any) -> Iterator[str]:
    last = next((run for run in runs if run.attempt == snapshot.attempt), None)
    if "succeeded" not in sent.kind.ends:
        yield f"{said} succeeded"
    elif last is None or last.end != "returned":
        yield f"{said} succeeded, and its last attempt did not return: {last}"
    elif isinstance(outcome, Exception) or sent.kind.value(outcome) != last.nonce:
        yield f"{said} succeeded with {outcome!r:.200}, and its last attempt returned {last.nonce!r}"


def _failure(said: str, sent: Sent, snapshot: JobSnapshot, runs: list[Run], outcome: Any) -> Iterator[str]:
    error = snapshot.error
    if error is None or not isinstance(outcome, JobFailed):
        yield f"{said} failed with {error}, and its result is {outcome!r}"
        return
    kind = str(error.kind)
    if kind == "exception" and "[Errno 24]" in error.message and "releases" in sent.pays:
        return  # a coroutine on the loop of a worker that may open no file
    if kind not in (sent.kind.ends | (sent.pays & {"lost"})):
        yield f"{said} failed as {kind}: {error}"
    elif kind == "lost" and snapshot.losses < MAX_LOSSES:
        yield f"{said} failed as lost after {snapshot.losses} losses"
    elif kind == "crash" and "SIGSEGV" not in error.message:
        yield f"{said} failed as {kind}: {error}"
    elif kind == "exception" and sent.kind.options.get("retries"):
        raised = sum(run.end == "raised" for run in runs)
        if raised <= snapshot.spec.retries or snapshot.retried != snapshot.spec.retries:
            yield f"{said} failed as {kind} after {raised} exceptions and {snapshot.retried} retries: {error}"


def handle(watch: Watch, snapshot: JobSnapshot | None) -> Iterator[str]:
    """Check that a live handle showed all changes in order, and that its watchers were notified of each state."""
    job = watch.job
    if snapshot is None:
        yield f"the handle of {job.id} is of a job that is not kept"
        return
    truth: list[tuple[int, str]] = []
    state = ""
    for event in snapshot.history:
        state = str(event.data.get("state", state))
        truth.append((event.seq, state))
    first = watch.changes[0][0]
    if watch.changes != truth[first - 1 :]:
        yield f"the handle of {job.id} showed {watch.changes}, and what happened is {truth}"
    states = [state for i, (_, state) in enumerate(truth) if i == 0 or truth[i - 1][1] != state]
    if states[len(states) - len(watch.states) :] != watch.states:
        yield f"watchers of {job.id} were told {watch.states}, and what happened is {states}"
    if (job.state, job.seq) != (snapshot.state, snapshot.seq):
        yield f"the handle of {job.id} says {job.state} at {job.seq}, the store {snapshot.state} at {snapshot.seq}"


def stream(events: list[Any], kept: dict[str, JobSnapshot]) -> Iterator[str]:
    """Check that the reader of all events saw each event once, in order."""
    seen: dict[str, list[int]] = {}
    for event in events:
        seen.setdefault(event.job_id, []).append(event.seq)
    for job_id, snapshot in kept.items():
        if seen.get(job_id, []) != list(range(1, snapshot.seq + 1)):
            yield f"kit.events() gave {seen.get(job_id)} of job {job_id}, which is at {snapshot.seq}"


def behind(window: Window, world: World) -> list[str]:
    """Yield stale rows of the table, if nothing has disturbed the dashboard for a while and
    the change was made a while ago."""
    found = []
    prefix = f"jk:{world.settings['namespace']}:"
    rows = dict(window.rows)
    with redis.Redis(unix_socket_path=str(world.server.socket)) as client:
        seconds, _ = client.time()
        newest = [raw.decode() for raw in client.zrevrange(f"{prefix}jobs", 0, 19)]
        for job_id in newest:
            seq = client.hget(f"{prefix}job:{job_id}", "seq")
            if seq is None:
                continue
            at = json.loads(client.hget(f"{prefix}job:{job_id}", f"e{int(seq)}") or b"{}").get("at", seconds * 1000)
            if seconds - at / 1000 <= SETTLE_S or rows.get(job_id, {}).get("seq", 0) >= int(seq):
                continue
            if window.rows.get(job_id, {}).get("seq", 0) < int(seq):
                found.append(
                    f"the table shows job {job_id} at {rows.get(job_id, {}).get('seq')}, and it has been at {int(seq)} "
                    f"for {seconds - at / 1000:.1f} s"
                )
    return found


def shown(chaos: Chaos) -> list[str]:
    """Yield what dashboard and event stream show wrongly at the end."""
    window, kit = chaos.windows[0], chaos.kits[2]
    found = []
    counts = {state: n for state, n in kit.counts().items() if n}
    if {state: n for state, n in window.counts.items() if n} != counts:
        found.append(f"the counters show {window.counts}, and there are {counts}")
    newest = kit.page(Query(limit=40)).jobs
    for snapshot in newest:
        row = window.rows.get(snapshot.id, {})
        if (row.get("seq"), row.get("face")) != (snapshot.seq, snapshot.face):
            found.append(
                f"the table shows job {snapshot.id} as {row.get('face')} at {row.get('seq')}, "
                f"it is {snapshot.state} at {snapshot.seq}"
            )
    for other in chaos.windows[1:]:
        try:
            job = kit.snapshot(other.url.rpartition("job=")[2])
        except JobkitError as error:
            found.append(f"the job of an open card: {error}")
            continue
        if (other.card.get("state"), other.card.get("seq")) != (str(job.state), job.seq):
            found.append(f"the card of {job.id} shows {other.card}, and it is {job.state} at {job.seq}")
    if chaos.reader is not None:
        chaos.told = len(chaos.reader.events)
        seen: dict[str, list[int]] = {}
        for _, job_id, seq in chaos.reader.events:
            seen.setdefault(job_id, []).append(seq)
        found += [
            f"the stream gave {seen.get(snapshot.id)} of job {snapshot.id}, which is at {snapshot.seq}"
            for snapshot in _everything(kit).values()
            if seen.get(snapshot.id, []) != list(range(1, snapshot.seq + 1))
        ]
    return found[:5]


def specs(url: str, namespace: str) -> list[str]:
    """Yield records whose spec has lost the fields of a later version."""
    with redis.Redis.from_url(url) as client:
        keys = list(client.scan_iter(f"jk:{namespace}:job:*", count=1000))
        lost = [key.decode() for key in keys if not newer.kept(client.hget(key, "spec") or b"{}")]
    return [f"{len(lost)} records have lost what a later version wrote, {lost[0]} among them"] if lost else []


def structure(url: str, namespace: str) -> list[str]:
    """Check the store's invariants, and that every key has an owner or expires."""
    laws = (support.check_laws, support.check_keys, support.clear)

    async def look() -> list[str]:
        store = RedisStore(Settings(url=url, namespace=namespace).checked())
        problems = []
        try:
            await discard(store, await damaged(store))
            for law in laws:
                try:
                    await law(store)  # type: ignore[operator]
                except (AssertionError, JobkitError) as error:
                    problems.append(f"{law.__name__}: {error}"[:1000])
            return problems
        finally:
            await store.close()

    return asyncio.run(look())


def said(log: Path) -> list[str]:
    """Yield tracebacks of jobkit itself from the workers' logs."""
    text = log.read_text("utf-8", "replace") if log.exists() else ""
    return [
        f"a worker said: {found[:2000]}" for found in re.findall(r"Traceback.*?\n(?=\S*\d{4}-|\Z)", text, re.DOTALL)[:3]
    ]
