"""A canary in every text that a user may choose, on every page and card and in saved notebook output.

Markup, templates, links and scripts in these texts stay text. Only a result that is HTML is rendered, in a sandboxed
frame.
"""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import pytest

from jobkit.client.loop import background
from jobkit.codec import PICKLE, Subject
from jobkit.features.batches.batch_html import batch_html
from jobkit.features.batches.batch_model import BatchModel
from jobkit.features.schedules.model import ScheduleSpec
from jobkit.features.schedules.store import ScheduleStore
from jobkit.model import ErrorKind, JobError, JobSnapshot, JobSpec, JobState, LogLine
from jobkit.model.limits import Gate
from jobkit.model.person import AuditEntry
from jobkit.tasks.registry import task
from jobkit.ui.app.pages import PAGES
from jobkit.ui.card.card_html import card_html
from jobkit.ui.card.card_model import CardModel
from jobkit.ui.form.form_model import form_html
from tests.support import wait_until
from tests.ui.conftest import CANARY, _own_registry, browser, serve, stage, wait_for
from tests.ui.stage import Stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["_own_registry", "browser", "serve", "stage"]

#: Sets `boom` on the window if it runs: as markup, attribute, markdown, template or after a closed element.
EVIL = (
    "<img src='/canary/img' onerror='window.top.boom=1'><script>window.top.boom=1</script>"
    "<svg onload=window.top.boom=1></script></style></textarea></title></pre>\"'>"
    "<details open ontoggle=window.top.boom=1><iframe src='/canary/frame'>"
    "<a href='javascript:window.top.boom=1'>link</a> ![x](/canary/md) [y](javascript:window.top.boom=1) `code` "
    "{{ 7 * 191 }} {% raw %} ${7 * 191} <%= 7 * 191 %> @{custom} $name &lt;b&gt; \u202egnp.exe"
)


class Mark:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def jobs(stage: Stage, tmp_path: Path) -> list[str]:
    """Jobs in every state with the canary in each text. Sealed values create a file when unpickled."""

    def evil(choice: Literal["a", "b"] = "a", text: str = EVIL) -> str:
        return text

    evil.__doc__ = f"{EVIL}\n\n{EVIL}\n\nArgs:\n    text: {EVIL}\n"
    task(evil, name="evil", title=CANARY)
    store = stage.store
    names = {"title": EVIL, "queue": EVIL, "owner": EVIL, "tags": (EVIL,), "key": EVIL}

    def sealed(kind: str, job_id: str) -> bytes:
        return stage.kit.codec.seal(PICKLE, pickle.dumps(Mark(tmp_path / "mark")), Subject(kind, job_id, EVIL))

    def submit(**more: Any) -> str:
        more["id"] = f"job{next(numbers)}"
        more["payload"] = sealed("args", more["id"])
        return stage.submit(EVIL, {EVIL: EVIL, "nested": {EVIL: [EVIL]}}, **{**names, **more})

    numbers = itertools.count()
    running, failed, retried, done = submit(), submit(), submit(), submit()
    for job in (running, failed, retried, done):
        stage.start(job, EVIL, EVIL)
        stage.progress(job, 1, 2, EVIL)
        for source in ("stdout", "stderr", "logging"):
            stage.log(job, EVIL, source=source, level="ERROR", logger=EVIL)
    stage.beat(EVIL, EVIL)
    for kind in ("text/html", "image/svg+xml", "text/csv", "application/json", "text/plain", EVIL):
        stage.save(done, f"{kind} {EVIL}"[:180], kind, json.dumps({EVIL: EVIL}).encode())
    trace = f'Traceback (most recent call last):\n  File "{EVIL}", line 1, in {EVIL}\n    {EVIL}\n{EVIL}: {EVIL}\n'
    stage.fail(failed, type=EVIL, message=EVIL, traceback=trace, where=EVIL)
    stage.retry_later(retried, EVIL, delay_ms=3_600_000)
    preview = {
        "type": EVIL,
        "text": EVIL,
        "page": f"<h1>shown</h1>{EVIL}",
        "table": {"columns": [EVIL, "b"], "rows": [[EVIL, EVIL]], "shape": [1, 2], "index": [EVIL]},
        "json": {EVIL: [EVIL]},
    }
    stage.succeed(done, preview=preview, summary=EVIL, result=sealed("result", done))
    cancelled = submit()
    background.call(store.cancel([cancelled], EVIL))
    plain = {}
    for name, only in {"table": "table", "json": "json", "text": "text"}.items():
        plain[name] = submit()
        stage.start(plain[name], EVIL, EVIL)
        stage.succeed(plain[name], preview={"type": EVIL, only: preview[only]}, summary=EVIL)
    moved = stage.submit(EVIL, queue="default")
    background.call(store.move([moved], EVIL, 3, EVIL))
    gates = {"limits": (Gate(f"key:{EVIL}", n=1),), "resources": {EVIL: 1.0}}
    held = [stage.submit(EVIL, **{**names, **gates}) for _ in range(2)]
    stage.kit.failures.mute(stage.kit.failures()[0].id, by=EVIL)
    again = submit()
    stage.start(again, EVIL, EVIL)
    stage.fail(again, type=EVIL, message=EVIL, where=f"another {EVIL}")
    for gate in (f"queue:{EVIL}", f"task:{EVIL}", "queue:default"):
        background.call(store.set_rule(gate, {"paused": {"by": EVIL}, "n": 1}))
    spec: dict[str, Any] = {"params": {EVIL: EVIL}, **names}
    background.call(
        store.part(ScheduleStore).put(ScheduleSpec(EVIL, JobSpec("", EVIL, **spec), cron="0 6 * * *"), b"", 9)
    )
    background.call(store.audit_log.note(AuditEntry.of(EVIL, EVIL, "page", EVIL, EVIL, [EVIL], EVIL, EVIL)))
    background.call(store.audit_log.note(AuditEntry.of(EVIL, EVIL, EVIL, EVIL, "job", [EVIL] * 5, "failed", EVIL)))
    return [running, failed, retried, done, cancelled, submit(), *plain.values(), moved, *held, again]


class Trap:
    """Browser page that records the effects of a canary."""

    def __init__(self, browser: Browser) -> None:
        self._context = browser.new_context(viewport={"width": 1440, "height": 900})
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(20_000)
        self.fired: list[str] = []
        self.page.on("dialog", lambda dialog: (self.fired.append("dialog"), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.fired.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("popup", lambda _: self.fired.append("popup"))

    def _asked(self, url: str) -> None:
        if urlsplit(url).path.startswith("/canary") or not url.startswith(
            ("http://localhost:", "http://127.0.0.1:", "data:", "blob:", "about:")
        ):
            self.fired.append(url)

    def check(self, where: str) -> None:
        if self.page.evaluate("window.boom !== undefined"):
            self.fired.append("a script ran")
        assert self.fired == [], where

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def trap(browser: Browser) -> Iterator[Trap]:
    made = Trap(browser)
    yield made
    made.close()


FAILURES = next(page for page in PAGES if page.slug == "failures")
COMPARE = next(page for page in PAGES if page.slug == "compare")

#: Opens all folded parts and artifacts.
OPEN = """() => {
  const found = [];
  const walk = (node) => {
    if (node.shadowRoot) walk(node.shadowRoot);
    for (const child of node.children || []) walk(child);
    if (node.tagName === 'DETAILS') node.open = true;
    if (node.tagName === 'BUTTON' && /^(Show|View|Open|All)/.test(node.textContent.trim())) found.push(node);
  };
  walk(document.body);
  found.forEach((button) => button.click());
  return found.length;
}"""


@pytest.mark.nightly
@pytest.mark.browser
def test_no_users_text_runs_on_any_page_or_card_and_nothing_is_unpickled(
    stage: Stage, jobs: list[str], serve: Callable[[Callable[[], Any]], str], trap: Trap, tmp_path: Path
) -> None:
    from jobkit.ui.app.dashboard import Dashboard

    url = serve(lambda: Dashboard(stage.kit, title=EVIL).__panel__())
    group = stage.kit.failures()[0].id
    for shown, more in (
        *((page, "") for page in PAGES),
        *((FAILURES, each) for each in ("&state=muted", f"&group={group}")),
        (COMPARE, f"&ids={','.join(jobs)}"),
    ):
        trap.page.goto(f"{url}?page={shown.slug}{more}")
        trap.page.wait_for_selector(f".tab[data-page={shown.slug}][aria-current]")
        wait_for(trap.page, "document.body.innerHTML.length > 0 && !window.boom")
        trap.page.evaluate(OPEN)
        trap.check(shown.slug)
    for job in jobs:
        trap.page.goto(f"{url}?job={job}")
        trap.page.wait_for_selector(".jk-card .title, .jk-card h2, .jk-card b")
        trap.page.evaluate(OPEN)
        wait_until(lambda: trap.page.evaluate("document.readyState") == "complete", what="the card")
        trap.check(job)
    trap.page.goto(f"{url}?job={EVIL}&q={EVIL}")
    trap.page.wait_for_selector(".jk-card:has-text('Job not found')")
    trap.check("a link")
    assert not (tmp_path / "mark").exists()
    assert stage.kit.get(jobs[3]).result(60) is None
    assert (tmp_path / "mark").exists(), "a call of result() unpickles it"


@pytest.mark.nightly
@pytest.mark.browser
def test_saved_notebook_output_runs_nothing_either(stage: Stage, jobs: list[str], trap: Trap) -> None:
    at = datetime(2026, 11, 24, tzinfo=UTC)
    line = LogLine(EVIL, 1, "stdout", "ERROR", EVIL)
    snapshots = [stage.kit.snapshot(job) for job in jobs]

    def saved(snapshot: JobSnapshot, preview: dict[str, Any]) -> str:
        model = CardModel(snapshot, preview=preview, artifacts=[{"name": EVIL, "size_bytes": 1}])
        model.load_log([line], 1, 0)
        return card_html(model, at)

    table = {"columns": [EVIL], "rows": [[EVIL]], "shape": [1, 1]}
    parts = [saved(each, {"type": EVIL, "text": EVIL}) for each in snapshots]
    parts += [
        saved(snapshots[3], each) for each in ({"table": table}, {"json": {EVIL: EVIL}}, {"page": EVIL, "text": EVIL})
    ]
    spec = JobSpec("a" * 8, EVIL, params={EVIL: EVIL, "n": 1}, title=EVIL)
    error = JobError(ErrorKind.EXCEPTION, EVIL, EVIL, EVIL, EVIL)
    pair = [JobSnapshot(spec, 3, JobState.FAILED, error=error, summary=EVIL), snapshots[3]]
    parts += [batch_html(BatchModel(pair), at), form_html(list(stage.kit.tasks().values()))]
    trap.page.goto("data:text/html,<!doctype html><body>")

    for part in parts:
        trap.page.set_content(f"<!doctype html><meta charset=utf-8><body>{part}")
        trap.page.evaluate(OPEN)
        trap.check(part[:200])
        assert "1337" not in trap.page.inner_text("body")
