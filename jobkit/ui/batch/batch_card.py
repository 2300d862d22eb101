"""`BatchCard`: many jobs in a Panel page (`batch.view()`); `BatchFeed`: the feed of it and of its twin in a notebook.

`BatchFeed` follows a batch on jobkit's background loop and hands the card's texts on, a few times a second; making them
is done in a thread, since ten thousand rows take their time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import param
from panel.custom import AnyWidgetComponent

from jobkit.client.loop import background
from jobkit.model import JobkitError, JobSnapshot, JobState
from jobkit.runners import Runners
from jobkit.ui.access.actions import ActionCall, ActionReply, Actions, action, each
from jobkit.ui.batch.batch_model import BatchModel, dumps
from jobkit.ui.live.bridge import SessionBridge
from jobkit.ui.live.component import Component
from jobkit.ui.live.shared_feed import Pacer, on_loop
from jobkit.ui.words import assets

if TYPE_CHECKING:
    from jobkit.client.batch import Batch

logger = logging.getLogger("jobkit.ui")

#: Seconds between two deliveries, at least.
_WINDOW_S = 0.25

#: Seconds between two plots, at least.
_PLOT_S = 0.8

#: Seconds between looks at whether anybody works on the jobs that wait.
_LOOK_S = 3.0


class DeliverBatch(Protocol):
    """Send texts to one browser. Called on the background loop; must not block.

    `done` is to be called, from any thread, when they have arrived: until then newer ones are kept back and merged.
    """

    def __call__(self, texts: Mapping[str, str], done: Callable[[], None]) -> None: ...


class BatchFeed:
    """Follows a batch until `stop`.

    Args:
        batch: the jobs.
        deliver: see `DeliverBatch`.
        is_list: see `BatchModel`.
        on_end: called once with the model when every job has ended, after its last delivery was made.
    """

    def __init__(
        self,
        batch: Batch,
        deliver: DeliverBatch,
        *,
        is_list: bool = False,
        on_end: Callable[[BatchModel], None] | None = None,
    ) -> None:
        self.batch = batch
        self._deliver = deliver
        self._on_end = on_end
        self._changed: dict[int, JobSnapshot] = {}
        self._stop_listening = batch.listen(self._heard)
        self.model = BatchModel([job.snapshot for job in batch.jobs], axes=batch.axes, is_list=is_list)
        self._pacer = Pacer(_WINDOW_S, self._flush)
        self._stops: list[Callable[[], None]] = []
        self._runners = Runners()
        self._is_busy = self._is_stopped = self._is_late = self._wants_all = self._is_plot_old = False
        self._due = False
        self._plotted_at = float("-inf")
        self._plot: str | None = None
        self._later: asyncio.TimerHandle | None = None
        self._wanted: list[tuple[int, str]] = []
        self._previews: dict[tuple[int, str], Mapping[str, Any] | None] = {}
        self._is_done = self._wants_plot = False
        self._again = 0

    def start(self) -> None:
        """Begin; from any thread."""
        background.start().call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        """End; from any thread, any number of times."""
        self._is_stopped = True
        self._stop_listening()
        background.start().call_soon_threadsafe(self._close)

    def say(self, sentence: str) -> None:
        """Show a sentence on the card: a request failed."""
        self.model.refused = sentence
        background.start().call_soon_threadsafe(self._poke)

    def resend(self) -> None:
        """Deliver everything again."""
        self._wants_all = True
        background.start().call_soon_threadsafe(self._poke)

    def greeted(self, n: object, plot_chars: object) -> None:
        """A card has come up with the table numbered `n` and a plot of that length. What was sent while its page was
        being loaded may not have reached it: then it is sent again."""
        self._wants_all = self._wants_all or n != self.model.replies
        if self._plot is not None and plot_chars != len(self._plot):
            self._wants_plot, self._again = True, self._again + 1
        background.start().call_soon_threadsafe(self._poke)

    def choose(self, chosen: Mapping[str, str]) -> None:
        """Plot something else."""
        self.model.chosen = {**self.model.chosen, **chosen}
        self._wants_plot = True
        background.start().call_soon_threadsafe(self._poke)

    # -- on the background loop ---------------------------------------------------------------------------------------

    def _heard(self, i: int, snapshot: JobSnapshot) -> None:
        """In any thread."""
        self._changed[i] = snapshot
        if not self._due and not self._is_stopped:
            self._due = True
            background.start().call_soon_threadsafe(self._poke)

    def _begin(self) -> None:
        if not self._is_stopped:
            self._stops.append(self.batch._kit.hub.on_status(lambda is_live: on_loop(self._status, is_live)))
            self._runners.run(self._watch())
            self._poke()

    def _close(self) -> None:
        self._pacer.stop()
        if self._later is not None:
            self._later.cancel()
        for stop in self._stops:
            stop()
        self._stops.clear()
        self._runners.cancel()

    def _poke(self) -> None:
        self._due = False
        if not self._is_stopped:
            self._pacer.poke()

    def _status(self, is_live: bool) -> None:
        self.model.is_live = is_live
        self._poke()

    def _flush(self) -> None:
        if self._is_busy:
            self._is_late = True  # what has changed since goes when this has arrived
        elif not self._is_stopped:
            self._is_busy, self._is_late = True, False
            self._runners.run(self._send())

    async def _send(self) -> None:
        try:
            texts, spent_s = await asyncio.to_thread(self._timed_texts)
            # Texts of a hundred thousand jobs take their time: use no more than a sixth of a processor.
            self._pacer.window_s = max(_WINDOW_S, 6 * spent_s)
            if "plot" not in texts and self._is_plot_old and self._later is None:
                self._later = asyncio.get_running_loop().call_later(_PLOT_S, self._plot_later)
            if not self._is_stopped:
                self._deliver(texts, self._arrived)
            else:
                self._is_busy = False
            await self._read_previews()
        except JobkitError as error:  # the server is away; the hub's status brings us back
            logger.debug("a batch's card could not read: %s", error)
        except Exception:
            self._is_busy = False
            logger.exception("a batch's card could not be made")

    def _timed_texts(self) -> tuple[dict[str, str], float]:
        began = time.thread_time()  # not the clock on the wall: on a busy machine it says nothing about us
        return self._texts(), time.thread_time() - began

    def _texts(self) -> dict[str, str]:
        """Make the changed texts, in a thread; one call at a time."""
        model, now = self.model, datetime.now(UTC)
        while self._changed:
            model.take(*self._changed.popitem())
        while self._previews:
            (i, job_id), preview = self._previews.popitem()
            if model.snapshots[i].id == job_id:
                model.show(i, preview)
        self._wanted = [(i, model.snapshots[i].id) for i in model.wanting()]
        self._is_done = model.is_terminal and not self._wanted
        model.stopped_by = self.batch.stopped_by.id[:8] if self.batch.stopped_by is not None else ""
        texts = {"head": dumps(model.head(now))}
        if self._wants_all:
            self._wants_all = False
            texts["table"] = dumps(model.table())
        elif (changes := model.changes()) is not None:
            texts[changes[0]] = dumps(changes[1])
            self._is_plot_old = True
        if self._wants_plot or model.is_terminal or now.timestamp() - self._plotted_at >= _PLOT_S:
            self._plotted_at = now.timestamp()
            self._wants_plot = self._is_plot_old = False
            shown = model.plot()
            # Numbered when sent again: an unchanged text would not be sent.
            plot = dumps({**shown, "again": self._again} if shown and self._again else shown)
            if plot != self._plot:
                self._plot = texts["plot"] = plot
        return texts

    def _plot_later(self) -> None:
        self._later = None
        self._poke()

    async def _read_previews(self) -> None:
        """Read results whose line does not have their numbers. `_make` puts them into the model."""
        wanted, self._wanted = self._wanted, []
        for start in range(0, len(wanted), 50):
            some = wanted[start : start + 50]
            kit = self.batch._kit
            found = await asyncio.gather(*(kit.aio.preview(job_id) for _, job_id in some))
            self._previews.update(zip(some, found, strict=True))
        if wanted:
            self._poke()
        elif self._is_done and self._on_end is not None:
            on_end, self._on_end = self._on_end, None
            on_end(self.model)

    def _arrived(self) -> None:
        background.start().call_soon_threadsafe(self._landed)

    def _landed(self) -> None:
        self._is_busy = False
        if self._is_late:
            self._poke()

    async def _watch(self) -> None:
        """Refresh what no event reports: rate, time left, and queues without a worker."""
        while not self.model.is_terminal or self._changed:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look()
            except JobkitError:
                continue
            self._poke()

    async def _look(self) -> None:
        waiting = {s.spec.queue for s in self.model.snapshots if s.state is JobState.QUEUED}
        running = any(s.state is JobState.RUNNING for s in self.model.snapshots)
        self.model.alert = None
        if waiting and not running:
            queues = await self.batch._kit.aio.queues()
            idle = sorted(name for name in waiting if not queues.get(name, {}).get("workers", 0))
            if idle:
                command = "jobkit worker" if idle == ["default"] else f"jobkit worker -q {' -q '.join(idle)}"
                text = f"Queued; no worker serves queue {', '.join(idle)}: run `{command}`"
                self.model.alert = {"level": "warning", "text": text}


def act(feed: BatchFeed, text: str, access: Actions, on_open: Callable[[str], object] | None = None) -> None:
    """Handle a request of the card's browser; ignore unknown ones."""
    try:
        asked = json.loads(text)
        action = asked.get("action")
    except (ValueError, AttributeError):
        return
    if action == "hello":
        feed.greeted(asked.get("n"), asked.get("plot"))
    elif action == "table":
        feed.resend()
    elif action == "plot":
        feed.choose({name: str(asked[name]) for name in ("x", "y", "by") if name in asked})
    elif action == "open" and on_open is not None:
        on_open(str(asked.get("id", ""))[:200])
    elif action in ("cancel", "retry"):
        feed.model.refused = ""
        access.begin(f"{action}_batch", [f"of {len(feed.batch.jobs)} jobs"], partial(_answered, feed), batch=feed.batch)


def _answered(feed: BatchFeed, answer: ActionReply) -> None:
    if answer.problem:
        feed.say(answer.problem)


async def _cancel(call: ActionCall, _: str) -> None:
    await asyncio.to_thread(call.details["batch"].cancel)


async def _retry(call: ActionCall, _: str) -> None:
    await asyncio.to_thread(partial(call.details["batch"].retry_failed, replace=True))


action("cancel_batch", each(_cancel), "asked to stop", on="batch", is_dangerous=True)
action("retry_batch", each(_retry), "run again", on="batch")


class BatchCard(Component, AnyWidgetComponent):
    """The live card of a batch.

    Args:
        batch: the jobs.
        is_list: see `BatchModel`.
        on_open: called in the session with the id of the job that was clicked; without, a click copies it.
        access: of the session, where the caller already has it.

    Attributes:
        head, table, delta, plot: the texts that the browser shows; see `BatchModel`. opens: see `on_open`.
        request: what the browser asks for.
    """

    head = param.String(default="")
    table = param.String(default="")
    delta = param.String(default="")
    plot = param.String(default="")
    opens = param.Boolean(default=False)
    request = param.String(default="")

    _esm = assets.esm("batch")
    _stylesheets: ClassVar[list[str]] = [assets.css("batch")]

    def __init__(
        self,
        batch: Batch,
        *,
        is_list: bool = False,
        on_open: Callable[[str], object] | None = None,
        access: Actions | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**{"opens": on_open is not None, **params})
        self._bridge = SessionBridge()
        self._access = access or Actions(batch._kit)
        self._feed = BatchFeed(batch, self._deliver, is_list=is_list)
        self._bridge.on_close(self._feed.stop)
        self.param.watch(lambda event: act(self._feed, event.new, self._access, on_open), "request")
        self._feed.start()

    def stop(self) -> None:
        """Stop the feed: the card is not shown any more."""
        self._feed.stop()

    def _deliver(self, texts: Mapping[str, str], done: Callable[[], None]) -> None:
        is_seen = self._access.person.sees_all or all(map(self._access.sees, self._feed.model.snapshots))

        def put() -> None:
            try:
                if is_seen:
                    self.param.update(**texts)
            finally:
                done()

        self._bridge.push(put)
