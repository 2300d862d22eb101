"""`Notifier`: delivers the events of a namespace to its sinks: webhooks, commands, OpenTelemetry.

One process of a namespace holds the leader lock. If it dies, another one continues after the last delivered event. So
each sink gets every event at least once, in order. A failed delivery is retried. A sink that stays unreachable gets one
try per event until it answers, so that it does not delay the others for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from jobkit.model import EventsExpired, EventType, JobEvent, JobkitError, JobSnapshot
from jobkit.model.notify_rule import NotifyRule
from jobkit.store.leader import ASK_S, HOLD_S, Leader
from jobkit.store.redis import RedisStore

logger = logging.getLogger("jobkit.notify")

Send = Callable[[], Awaitable[None]]

#: Seconds between the tries of one message.
TRIES_S = (1.0, 5.0, 20.0)

#: Maximum number of events that are read at once.
_SLICE = 100


#: Seconds until a delivery times out.
TIMEOUT_S = 10.0


class DeliveryRefused(Exception):
    """The receiver did not accept a message; `may_retry` is True if it may accept it later."""

    def __init__(self, why: str, *, may_retry: bool = True) -> None:
        super().__init__(why)
        self.may_retry = may_retry


class NotificationSink(Protocol):
    """Receiver of events. `name` is its name in logs."""

    name: str

    def wants(self, event: JobEvent, snapshot: JobSnapshot) -> bool:
        return True

    async def deliver(self, event: JobEvent, snapshot: JobSnapshot) -> None:
        """Deliver the event. Raises `DeliveryRefused`."""
        ...

    def close(self) -> None:
        """Release resources after the last delivery. May block for some seconds."""
        return  # there are none, unless a subclass has some


def message_of(event: JobEvent, snapshot: JobSnapshot) -> bytes:
    """Return the JSON for receivers: the event, the job's current snapshot, and one sentence for chat programs."""
    wire = {"text": sentence(event, snapshot), "event": event.to_json(), "job": snapshot.to_json()}
    return json.dumps(wire, default=str).encode()


def sentence(event: JobEvent, snapshot: JobSnapshot) -> str:
    """Return `simulate failed after 3.2 s: ValueError: no such method (job 1f8c03aa)`."""
    spec = snapshot.spec
    text = f"{spec.title or spec.task} {str(event.type).replace('_', ' ')}"
    is_end = event.type in (EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELLED)
    if is_end and snapshot.started_at is not None and snapshot.finished_at is not None:
        text += f" after {(snapshot.finished_at - snapshot.started_at).total_seconds():.1f} s"
    if event.type is EventType.FAILED and snapshot.error is not None:
        text += f": {str(snapshot.error).splitlines()[0][:300]}"
    elif event.type is EventType.ASKED:
        text += f": {event.data.get('text', '')}"
    elif event.type is EventType.ANSWERED:
        text += f" by {event.data.get('by') or 'a user'}: {event.data.get('text', '')} {event.data.get('said', '')}"
    elif event.type is EventType.SUCCEEDED and snapshot.summary:
        text += f": {snapshot.summary}"
    return f"{text} (job {spec.id[:8]})"


class RuleSink(NotificationSink):
    """Base of the sinks that a rule of the settings describes."""

    def __init__(self, rule: NotifyRule) -> None:
        self.rule = rule
        self.name = rule.name

    def wants(self, event: JobEvent, snapshot: JobSnapshot) -> bool:
        spec = snapshot.spec
        return event.type in self.rule.on and self.rule.wants(spec.task, spec.queue, spec.owner)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Do not follow redirects: a message must not reach another address."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def post(url: str, body: bytes, headers: Mapping[str, str], *, retried: Collection[int] = (408, 429)) -> None:
    """Send a POST; blocks for at most about `TIMEOUT_S`. May be retried after a status of `retried`, or from 500 on."""
    try:
        _opener.open(urllib.request.Request(url, body, dict(headers), method="POST"), timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        error.close()
        may_retry = error.code >= 500 or error.code in retried
        raise DeliveryRefused(f"it answers {error.code}", may_retry=may_retry) from None
    except (OSError, ValueError) as error:
        raise DeliveryRefused(f"it does not answer: {getattr(error, 'reason', None) or error}") from None


class Webhook(RuleSink):
    """Posts JSON; with a secret, the header `X-Jobkit-Signature: sha256=` and the HMAC of the body in hexadecimal."""

    async def deliver(self, event: JobEvent, snapshot: JobSnapshot) -> None:
        body = message_of(event, snapshot)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "jobkit",
            "X-Jobkit-Event": str(event.type),
            "X-Jobkit-Delivery": event.id,
        }
        if self.rule.secret:
            digest = hmac.new(self.rule.secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Jobkit-Signature"] = f"sha256={digest}"
        await asyncio.to_thread(post, self.rule.url, body, headers)


class Command(RuleSink):
    """Runs a program without a shell, in a new process group that is killed after `TIMEOUT_S`.

    It gets the JSON on standard input, and `JOBKIT_EVENT` and `JOBKIT_JOB_ID` in its environment.
    """

    async def deliver(self, event: JobEvent, snapshot: JobSnapshot) -> None:
        told = {"JOBKIT_EVENT": str(event.type), "JOBKIT_JOB_ID": event.job_id}
        try:
            process = await asyncio.create_subprocess_exec(
                *self.rule.command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**os.environ, **told},
                start_new_session=True,
            )
        except OSError as error:
            raise DeliveryRefused(f"it cannot be started: {error}", may_retry=False) from None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await process.communicate(message_of(event, snapshot))
        except TimeoutError:
            raise DeliveryRefused(f"it had not ended after {TIMEOUT_S:g} s and was killed", may_retry=False) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):  # the second: of a zombie on macOS
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            raise DeliveryRefused(f"it ended with status {process.returncode}", may_retry=False)


class Notifier:
    """Delivers every event of the store's namespace to `sinks`.

    Args:
        lock, cursor: names of the leader lock and of the mark at the last delivered event.
        tries_s: seconds between the tries of one message; may be endless.
    """

    def __init__(
        self,
        store: RedisStore,
        sinks: Sequence[NotificationSink],
        *,
        lock: str = "teller",
        cursor: str = "told",
        tries_s: Iterable[float] = TRIES_S,
    ) -> None:
        self._store, self._sinks = store, sinks
        self._leader, self._cursor, self._tries_s = Leader(store, lock), cursor, tries_s
        self._away: set[str] = set()

    async def begin(self) -> None:
        """Start the cursor at the newest event if this namespace has none yet."""
        with contextlib.suppress(JobkitError):  # `run` waits for the store
            if not await self._store.marked(self._cursor):
                await self._store.mark(self._cursor, await self._store.last_event_id())

    async def run(self) -> None:
        """Deliver until cancelled. Then close the sinks."""
        try:
            await self._leader.run(self._deliver_pending, logger, "notifications wait")
        finally:
            for sink in self._sinks:
                await asyncio.to_thread(sink.close)

    async def _deliver_pending(self) -> None:
        """Deliver pending events, or wait for new ones."""
        await self.begin()
        last = await self._store.marked(self._cursor)
        try:
            events = await self._store.events(last, _SLICE)
        except EventsExpired as expired:
            logger.warning("some notifications are lost: %s", expired)
            await self._store.mark(self._cursor, "0-0")
            return
        found = await self._store.snapshots(list(dict.fromkeys(event.job_id for event in events)))
        snapshots = {snapshot.id: snapshot for snapshot in found if snapshot is not None}
        await self._begin_slice([snapshots[event.job_id] for event in events if event.job_id in snapshots])
        for event in events:
            if (snapshot := snapshots.get(event.job_id)) is not None and (sends := self._sends(event, snapshot)):
                about = f"that job {event.job_id} {event.type}"
                await asyncio.gather(*(self._deliver(sink.name, about, send) for sink, send in sends))
                if not await self._leader.is_leader():  # another worker may deliver this event again
                    return
                await self._end_event(event)
                await self._store.mark(self._cursor, event.id)
        if events:
            await self._store.mark(self._cursor, events[-1].id)
        else:
            await self._store.news(last, ASK_S / 2)

    async def _begin_slice(self, snapshots: Sequence[JobSnapshot]) -> None:
        """Called before the events of these jobs are delivered."""

    def _sends(self, event: JobEvent, snapshot: JobSnapshot) -> list[tuple[NotificationSink, Send]]:
        """Return the sinks that get an event, and what sends it."""
        return [(sink, partial(sink.deliver, event, snapshot)) for sink in self._sinks if sink.wants(event, snapshot)]

    async def _end_event(self, event: JobEvent) -> None:
        """Called when an event was delivered."""

    async def _deliver(self, name: str, about: str, send: Send) -> None:
        """Call `send`, with retries; `about` says in the log what the sink of this name was not notified of."""
        waits = iter(() if name in self._away else self._tries_s)
        while True:
            try:
                await send()
            except DeliveryRefused as refused:
                if refused.may_retry:
                    if (wait := next(waits, None)) is not None:
                        if await self._leads_for(wait):
                            continue
                        return  # another worker delivers it
                    self._away.add(name)
                logger.warning("%s was not notified %s: %s", name, about, refused)
            except Exception:
                logger.exception("%s was not notified %s", name, about)
            else:
                self._away.discard(name)
            return

    async def _leads_for(self, seconds: float) -> bool:
        """Wait, and renew the leader lock meanwhile; return False if another process has it."""
        while seconds > 0:
            step = min(seconds, HOLD_S / 3)
            await asyncio.sleep(step)
            seconds -= step
            if not await self._leader.is_leader():
                return False
        return True
