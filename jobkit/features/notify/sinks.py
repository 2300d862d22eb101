"""Receivers of notifications: webhooks and commands, and what all kinds of receivers share."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from jobkit.codec import RETIRED
from jobkit.features.notify.rule import NotifyRule
from jobkit.model import ENDS, EventType, JobEvent, JobSnapshot
from jobkit.settings import Settings

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
    is_end = str(event.type) in ENDS
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


class KeptSink(RuleSink):
    """Base of the sinks whose messages wait in the store until they are accepted.

    `key` names the address in the store, which must not have it: addresses contain passwords. Not the position of the
    rule, which may change while messages wait.
    """

    joins = False
    """Messages that wait are sent as one."""

    def __init__(self, rule: NotifyRule, settings: Settings) -> None:
        super().__init__(rule)
        oldest = settings.secret.rpartition(",")[2].removeprefix(RETIRED)  # it stays the same when the key is replaced
        key = hashlib.sha256(oldest.encode()).digest()
        address = rule.to or f"{rule.url} {rule.secret}"
        self.key = hashlib.blake2b(address.encode(), key=key, digest_size=8).hexdigest()

    def message(self, event: JobEvent, snapshot: JobSnapshot) -> bytes:
        """Return the message of an event, as it is kept and sent."""
        raise NotImplementedError

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send messages, only one unless the sink `joins` them. Raises `DeliveryRefused`."""
        raise NotImplementedError

    async def deliver(self, event: JobEvent, snapshot: JobSnapshot) -> None:
        await self.send([self.message(event, snapshot)])


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


class Webhook(KeptSink):
    """Posts JSON; with a secret, the header `X-Jobkit-Signature: sha256=` and the HMAC of the body in hexadecimal."""

    def message(self, event: JobEvent, snapshot: JobSnapshot) -> bytes:
        return message_of(event, snapshot)

    async def send(self, messages: Sequence[bytes]) -> None:
        (body,) = messages
        event = json.loads(body)["event"]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "jobkit",
            "X-Jobkit-Event": event["type"],
            "X-Jobkit-Delivery": event["id"],
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
