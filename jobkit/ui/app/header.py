"""The head of the dashboard: `Nav`, its notifications (`BellFeed`) and the sentence below it (`StoreBannerFeed`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import param

from jobkit.client.kit import Kit
from jobkit.features import modules
from jobkit.model import ENDS, EventType, JobEvent, JobSnapshot, StoreUnavailable
from jobkit.model.format import END_WORDS, duration
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.component import Component
from jobkit.ui.live.control import on_request
from jobkit.ui.live.shared_feed import SharedFeed, Subscriber, TextFeed


class Nav(Component):
    """Name, pages and the state of the connection.

    Args:
        bridge: of the session.
        on: called in the session with the browser's request, by its action: "page" (`page` was chosen), "url" (the
            browser shows the address `search` by itself), "theme" (`dark`), "bell" (notifications are `on`), "open"
            (the notification of job `id` was clicked).

    Attributes:
        pages: `[slug, word]` of each page. page: slug of the shown page. home: slug of the page whose URL has none.
        keys: `[key, what]` of the pages' own keys. title: of the browser's tab.
        url: the newest `search` (`?page=...`) that the browser is to show in its address, with a number `n`.
        status: "live", "reconnecting" or "stopped". place: where the jobs are, password masked.
        ended: jobs that have ended, see `notifications`. bell: whether notifications are offered.
        who: name of the person, if logged in. logout: URL to log out.
        again: the browser must reload the page, since the person's role has changed.
        request: the browser's newest request.
    """

    pages = param.List(default=[])
    page = param.String(default="")
    home = param.String(default="")
    keys = param.List(default=[])
    title = param.String(default="jobkit")
    url = param.String(default="")
    status = param.String(default="live")
    place = param.String(default="")
    ended = param.String(default="")
    bell = param.Boolean(default=False)
    who = param.String(default="")
    logout = param.String(default="")
    again = param.Boolean(default=False)
    request = param.String(default="")

    MODULE = "nav"

    def __init__(
        self,
        *,
        bridge: SessionBridge,
        on: Mapping[str, Callable[[Mapping[str, Any]], object]],
        **params: Any,
    ) -> None:
        super().__init__(**params)
        on_request(self, bridge, lambda action, asked: on[action](asked) if action in on else None)


# -- notifications of the browser --------------------------------------------------------------------------------------

#: Jobs that get a notification each; of more, one with their number.
_MOST = 3

_ENDS = {EventType(end): END_WORDS[end] for end in ENDS}


def notifications(jobs: Sequence[JobSnapshot]) -> list[dict[str, str]]:
    """Return notifications of jobs that have ended or ask: `title`, `body` and the `id` of the job ("" for several)."""
    if len(jobs) <= _MOST:
        return [_notification(job) for job in jobs]
    failed, asking = sum(job.state == "failed" for job in jobs), sum(bool(job.asking) for job in jobs)
    if asking == len(jobs):
        return [{"id": "", "title": f"{asking} of your jobs ask a question", "body": ""}]
    body = f"{failed} failed" if failed else "none failed"
    body += f", {asking} more ask a question" if asking else ""
    return [{"id": "", "title": f"{len(jobs) - asking} of your jobs have ended", "body": body}]


def _notification(job: JobSnapshot) -> dict[str, str]:
    name = (job.spec.title or job.spec.task)[:150]
    if job.asking:
        return {"id": job.id, "title": f"{name} asks", "body": job.asking[0].text}
    took = job.elapsed_s(job.finished_at) if job.finished_at is not None else None
    reason = str(job.error) if job.error is not None else job.summary
    parts = [f"after {duration(took)}" if took else "", reason]
    return {
        "id": job.id,
        "title": f"{name} {_ENDS[EventType(job.state)]}",
        "body": " · ".join(filter(None, parts))[:300],
    }


@dataclass(eq=False, slots=True)
class BellSubscriber(Subscriber):
    """One session that wants notifications of its owner's jobs."""

    owner: str = ""


class BellFeed(SharedFeed[BellSubscriber]):
    """Delivers `ended`, `notifications` as JSON, soon after jobs have ended or asked. Missed ones are not repeated."""

    WINDOW_S = 1.0

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit)
        self._ended: dict[str, None] = {}

    def take(self, event: JobEvent) -> None:
        if event.type in _ENDS or event.type is EventType.ASKED:
            self._ended[event.job_id] = None
            self.poke()

    def flush(self) -> None:
        ended, self._ended = list(self._ended), {}
        if ended:
            self.runners.run(self._notify(ended))

    async def _notify(self, ended: Sequence[str]) -> None:
        found = await self.kit.verbs.store.snapshots(ended[-500:])
        jobs = [job for job in found if job is not None and (job.is_terminal or job.asking)]
        for subscriber in list(self.subscribers):
            if mine := [job for job in jobs if job.spec.owner == subscriber.owner]:
                told = {"ended": notifications(mine), "n": f"{mine[-1].id} {mine[-1].seq} {len(mine)}"}
                subscriber.deliver({"ended": json.dumps(told)}, {})


# -- while the store refuses changes -----------------------------------------------------------------------------------

#: Consequence for the user.
_MEANWHILE = "Until then nothing can be submitted or changed here; jobs that run go on, and their results are kept."


class StoreBannerFeed(TextFeed):
    """`said`: the sentence on every page while the store refuses changes or was stopped, or while a feature cannot do
    what it is for; "" if all is well.

    Each server process, not each page, checks every `LOOK_S` seconds with one small script that tries an empty write.
    So it is right without any worker, and the sentence goes by itself. A refused action triggers a check at once.
    """

    LOOK_S = 5.0
    CHANNELS = ()

    async def data(self) -> dict[str, Any]:
        try:
            refused = await self.kit.verbs.store.refused()
        except StoreUnavailable:
            return {"said": self.kit.hub.stopped}
        if refused is None:
            said = [await module.said(self.kit.verbs.store) for module in modules("said")]
            return {"said": ". ".join(filter(None, said))}
        return {"said": f"{refused}. {_MEANWHILE}"}
