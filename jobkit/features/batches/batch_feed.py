"""`BatchFeed`: many jobs, followed for the cards that show them. `BatchControl`: one of these cards.

The texts are made in a thread, a few times a second, because ten thousand rows take their time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from jobkit.client.batch import Batch
from jobkit.client.kit import Kit
from jobkit.client.loop import background
from jobkit.client.waits import reasons_of
from jobkit.features.batches.batch_curves import charts_text
from jobkit.features.batches.batch_files import KINDS, answer
from jobkit.features.batches.batch_model import BatchModel, model_of
from jobkit.model import EventType, JobEvent, JobSnapshot, JobState, apply
from jobkit.model.plain import dumps
from jobkit.ui.access.actions import ActionCall, ActionReply, Actions, action, each
from jobkit.ui.card.card_model import no_worker, waits
from jobkit.ui.live.control import Control
from jobkit.ui.live.shared_feed import Deliver, SharedFeed, Subscriber, answered, soon

#: Seconds between two plots, at least, while jobs go on.
_PLOT_S = 0.8


@dataclass(eq=False, slots=True)
class BatchSubscriber(Subscriber):
    """One card of a batch. `put` gets any of `head`, `table`, `plot`, `curves`, and parts of `delta`; see `BatchModel`.

    Attributes:
        chosen: names that its user plots. plot: the text that it has.
        wants_table: it has not been given the table yet, or missed a delta.
    """

    chosen: dict[str, str] = field(default_factory=dict)
    plot: str = ""
    wants_table: bool = True


class BatchFeed(SharedFeed[BatchSubscriber]):
    """Follows the live handles of a batch, which read what they miss themselves; `is_list` as of `BatchModel`."""

    LOOK_S = 3.0

    def __init__(self, kit: Kit, batch: Batch, is_list: bool = False) -> None:
        super().__init__(kit)
        self.CHANNELS = (batch.id,) if batch.spec.kind else ()  # type: ignore[misc]  # events of the job that leads it
        self.batch = batch
        self.model: BatchModel | None = None
        self._is_list = is_list
        self._changed: dict[int, JobSnapshot] = {}
        self._previews: dict[tuple[int, str], Mapping[str, Any] | None] = {}
        self._is_fetching = False
        self._lacks_facts = False
        self._plotted_at = 0.0
        self._curves = ""
        self._labelled: Sequence[str] = ()  # arguments in the labels of the curves
        self._reader_of_curves = self.paced(_PLOT_S, self._read_curves)
        self._reader_of_facts = self.paced(_PLOT_S, self._read_facts)
        self._stop_listening = batch.listen(self._heard)

    def close(self) -> None:
        self._stop_listening()

    def _heard(self, i: int, snapshot: JobSnapshot) -> None:
        """In any thread."""
        self._changed[i] = snapshot
        if len(self._changed) == 1:  # the others come with it
            soon(self.poke)

    # -- see `SharedFeed` ----------------------------------------------------------------------------------------------

    async def read(self) -> None:
        (leader,) = await self.kit.verbs.store.snapshots([self.batch.id]) if self.CHANNELS else (None,)
        if self.model is None:
            snapshots = [job.snapshot for job in self.batch.jobs]
            self.model = await asyncio.to_thread(model_of, self.batch.spec, snapshots, leader, self._is_list)
        self.model.leader = leader
        if leader is not None:
            self._want_facts()

    def loaded(self) -> None:
        self._connected(self.kit.hub.is_live)

    def status(self, is_live: bool) -> None:
        self._connected(is_live)
        if self.CHANNELS:
            super().status(is_live)

    def _connected(self, is_live: bool) -> None:
        if self.model is not None:
            self.model.connection = self.kit.hub.connection(is_live)
            self.poke()

    def take(self, event: JobEvent) -> None:
        """An event of the leader of a batch."""
        if self.model is None or self.model.leader is None or event.type is EventType.DELETED:
            return
        moved = apply(self.model.leader, event)
        if moved is None:
            return self.reload()
        if "kept" in event.data or event.type.is_end:
            self._want_facts()
        if moved is not self.model.leader:
            self.model.leader = moved
            self.poke()

    def _want_facts(self) -> None:
        self._lacks_facts = True
        self._reader_of_facts.poke()

    async def _read_facts(self) -> None:
        """Read what the leader says of the batch."""
        self._lacks_facts = False
        if self.model is not None:
            await asyncio.to_thread(self.model.read_facts, self.kit)
        self.poke()

    def kit_closed(self, why: str) -> None:
        if self.model is not None:
            self.model.connection = why
            self.poke()
        else:
            for subscriber in list(self.subscribers):
                subscriber.end(None)

    def tell(self, subscriber: BatchSubscriber, version: Any = None) -> None:
        """`version`: number of the table and length of the plot that the browser has."""
        if self.model is None or version != (self.model.replies, len(subscriber.plot)):
            subscriber.wants_table, subscriber.plot = True, ""
            if self._curves:
                subscriber.deliver({"curves": self._curves}, {})
        self.poke()

    def choose(self, subscriber: BatchSubscriber, chosen: dict[str, str]) -> None:
        subscriber.chosen, subscriber.plot = chosen, ""
        self.poke()

    def look(self) -> None:
        """Refresh what no event reports: rate, time left, and queues without a worker."""
        if self.model is not None and not self.model.is_terminal:
            self.runners.run(self._look(self.model))

    async def _look(self, model: BatchModel) -> None:
        waiting, verbs, alert = model.waiting, self.kit.verbs, None
        ids = [job.id for job in waiting if job.spec.queue == waiting[0].spec.queue]
        if reasons := await reasons_of(verbs.store, verbs.codec, ids):
            alert = waits(reasons[0].text, reasons[0].level)
        elif waiting and not any(job.state is JobState.RUNNING for job in model.snapshots):
            queues = await self.kit.aio.queues()
            names = {job.spec.queue for job in waiting}
            if idle := sorted(name for name in names if not queues.get(name, {}).get("workers", 0)):
                alert = no_worker(idle)
        model.alert = alert
        model.rule_problem = await asyncio.to_thread(lambda: self.batch.rule_problem)
        self.poke()

    def flush(self) -> Coroutine[Any, Any, None] | None:
        return None if self.model is None else self._send(self.model)

    async def _send(self, model: BatchModel) -> None:
        subscribers = list(self.subscribers)
        is_whole = any(each.wants_table for each in subscribers)
        now = datetime.now(UTC)
        plotted = [(each.chosen, bool(each.plot)) for each in subscribers]
        for subscriber in subscribers:
            subscriber.wants_table = False
        whole, parts, plots, wanted, spent_s = await asyncio.to_thread(self._make, model, now, is_whole, plotted)
        # Texts of a hundred thousand jobs take their time: use no more than a sixth of a processor.
        self.pacer.window_s = max(self.WINDOW_S, 6 * spent_s)
        for subscriber, plot in zip(subscribers, plots, strict=True):
            if plot is not None and plot != subscriber.plot:
                subscriber.plot = plot
                subscriber.deliver({**whole, "plot": plot}, parts)
            else:
                subscriber.deliver(whole, parts)
        has_curves = bool(model.curves.wanting(model.snapshots)) or self._is_mislabelled(model)
        came = self._changed or self._previews  # during this call
        has_more = has_curves or self._is_fetching or self._lacks_facts or bool(came)
        if has_curves:
            self._reader_of_curves.poke()
        if wanted and not self.kit.is_closed:
            self._is_fetching = True
            self.runners.run(self._fetch(model, wanted))
        elif (model.is_terminal and not has_more) or self.kit.is_closed:
            for subscriber in subscribers:
                subscriber.end(model)

    def _make(
        self, model: BatchModel, now: datetime, is_whole: bool, plotted: Sequence[tuple[Mapping[str, str], bool]]
    ) -> tuple[dict[str, str], dict[str, str], list[str | None], list[int], float]:
        """Return whole texts, parts, plots, places of wanted previews, and the seconds of CPU that it took.

        In a thread, one call at a time.

        Args:
            plotted: for each subscriber the names that its user plots, and whether it has a plot.
        """
        began = time.thread_time()
        changed = {}
        while self._changed:
            i, snapshot = self._changed.popitem()
            changed[i] = snapshot
        for i in sorted(changed):  # further jobs are behind the last one
            model.take(i, changed[i])
        while self._previews:
            (i, job_id), preview = self._previews.popitem()
            if model.snapshots[i].id == job_id:
                model.show(i, preview)
        stopped_by = self.batch.stopped_by
        model.stopped_by = stopped_by.id[:8] if stopped_by is not None else ""
        if model.is_terminal:
            model.rule_problem = self.batch.rule_problem
        name, rows = ("table", model.table()) if is_whole else model.changes()
        whole = {"head": dumps(model.head(now))}
        parts: dict[str, str] = {}
        if rows:
            (whole if name == "table" else parts)[name] = dumps(rows)
        is_due = model.is_terminal or now.timestamp() - self._plotted_at >= _PLOT_S
        if is_due:
            self._plotted_at = now.timestamp()
        plots = [dumps(model.plot(chosen)) if is_due or not has_plot else None for chosen, has_plot in plotted]
        return whole, parts, plots, model.wanting(), time.thread_time() - began

    async def _read_curves(self) -> None:
        """Read the metrics of jobs that have newer ones, and deliver the charts."""
        if (model := self.model) is None:
            return
        wanted = model.curves.wanting(model.snapshots)
        if wanted or self._is_mislabelled(model):
            lines = await answered(lambda: self.kit.aio.metric_lines(list(wanted))) if wanted else []
            self._labelled = model.args
            self._curves = await asyncio.to_thread(self._charts, model, wanted, lines)
            self.publish({"curves": self._curves})
            self.poke()

    def _is_mislabelled(self, model: BatchModel) -> bool:
        """Return True if jobs that came later have other arguments than those in the labels of the curves."""
        return bool(self._curves) and model.args != self._labelled

    @staticmethod
    def _charts(model: BatchModel, wanted: Mapping[str, int], lines: Sequence[Sequence[bytes]]) -> str:
        model.curves.learn(wanted, lines)
        return charts_text(model.charts())

    async def _fetch(self, model: BatchModel, wanted: Sequence[int]) -> None:
        """Read results whose line does not have their numbers. `_make` puts them into the model."""
        try:
            for start in range(0, len(wanted), 50):
                some = [(i, model.snapshots[i].id) for i in wanted[start : start + 50]]
                reads = [answered(partial(self.kit.aio.preview, job_id)) for _, job_id in some]
                self._previews.update(zip(some, await asyncio.gather(*reads), strict=True))
        finally:
            self._is_fetching = False
            self.poke()


class BatchControl(Control):
    """The control of a batch's card; `is_list` as of `BatchModel`."""

    def __init__(
        self,
        access: Actions,
        put: Deliver,
        batch: Batch,
        *,
        is_list: bool = False,
        on_end: Callable[[BatchModel], None] | None = None,
    ) -> None:
        super().__init__(access, put, on_end)
        self._batch = batch
        self._subscriber = BatchSubscriber(self._deliver, on_end=on_end)
        self._subscriber.start(self._kit, BatchFeed, batch, is_list)
        background.spawn(self._look_at_reader())

    def do(self, action: str, asked: Mapping[str, Any]) -> None:
        subscriber = self._subscriber
        if subscriber is None:
            return
        if action == "hello":
            subscriber.resend((asked.get("n"), asked.get("plot")))
        elif action == "table":
            subscriber.resend()
        elif action == "plot":
            chosen = {name: str(asked[name]) for name in ("x", "y", "by") if name in asked}
            subscriber.ask(lambda feed: feed.choose(subscriber, chosen))
        elif action == "file" and str(asked.get("what")) in KINDS:
            background.spawn(self._save(str(asked["what"]), str(asked.get("n"))[:40]))
        elif action in ("cancel", "retry"):
            self._act(f"{action}_batch", [f"of {len(self._batch)} jobs"], batch=self._batch)
        elif action == "tell" and self._batch.id and self._sees():
            self._act("tell_batch", [self._batch.id], on=asked.get("on"))

    def _acted(self, reply: ActionReply) -> None:
        super()._acted(reply)
        background.spawn(self._look_at_reader())

    async def _look_at_reader(self) -> None:
        await self._tell_reader(self._batch.id, lambda: True)

    async def _save(self, what: str, n: str) -> None:
        if (model := self.model) is not None and self._sees():
            self._put({"file": await asyncio.to_thread(answer, self._batch, model, what, n)}, {})


async def _cancel(call: ActionCall, _: str) -> None:
    batch: Batch = call.details["batch"]
    if batch.id:
        await call.kit.aio.batches.cancel(batch.id, by=call.by)  # the page may show only the first of its jobs
    else:
        await asyncio.to_thread(batch.cancel)


async def _retry(call: ActionCall, _: str) -> None:
    await asyncio.to_thread(partial(call.details["batch"].retry_failed, replace=True))


action("cancel_batch", each(_cancel), "asked to stop", on="batch")
action("retry_batch", each(_retry), "run again", on="batch")
