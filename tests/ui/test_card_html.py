"""The card of a saved notebook: small, self-contained, and inert whatever a job says."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from jobkit.model import ErrorKind, EventType, JobEvent, JobSnapshot, JobSpec, JobState, LogLine
from jobkit.model.snapshot import JobError
from jobkit.ui.card import card_html as card
from jobkit.ui.card.card_model import CardModel

NOW = datetime(2026, 11, 24, 15, 4, tzinfo=UTC)
MS = int(NOW.timestamp() * 1000)
CANARY = "</pre></style><script>boom()</script><img src=x onerror=boom()>\"'"

ALLOWED = {
    "div", "p", "span", "b", "i", "code", "pre", "details", "summary", "table", "thead", "tbody", "tr", "td", "th",
    "style", "img",
}  # fmt: skip


class Elements(HTMLParser):
    """All elements with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def job(state: str = "succeeded", **fields: Any) -> JobSnapshot:
    spec = JobSpec(id="8f2c1a9bd0", task="train", title="Train", params={"lr": 0.003})
    ended = NOW if JobState(state).is_terminal else None
    started = NOW - timedelta(seconds=209) if state not in ("queued", "scheduled") else None
    base: dict[str, Any] = {
        "spec": spec,
        "seq": 3,
        "state": JobState(state),
        "started_at": started,
        "finished_at": ended,
    }
    return JobSnapshot(**base | {"submitted_at": NOW, "attempt": 1, "worker": "gpu-1"} | fields)


def card_html(
    snapshot: JobSnapshot,
    lines: Sequence[LogLine] = (),
    preview: dict[str, Any] | None = None,
    artifacts: Sequence[dict[str, Any]] = (),
) -> str:
    model = CardModel(snapshot)
    model.load_log(lines, len(lines), 0)
    model.show(preview)
    model.keep([*artifacts])
    return card.card_html(model, NOW)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of this process is Berlin's: one hour ahead of UTC in winter."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_an_ended_job_reads_well_without_any_style(berlin: None) -> None:
    html = card_html(job(summary="x"), [LogLine("fold 1", MS, n=1)], {"type": "int", "text": "42"})

    text = " ".join(re.sub(r"<style>.*</style>|<[^>]+>", " ", html, flags=re.DOTALL).split())
    assert text == (
        "✓ Succeeded Train lr=0.003 3 m 29 s ended 2026-11-24 16:04 · worker gpu-1 · 8f2c1a9b 42 Log, 1 line fold 1"
    )


def test_a_job_that_was_still_going_on_says_so_and_how_to_see_it_live(berlin: None) -> None:
    html = card_html(job("running", completed=3, total=10, message="fold 3"))

    assert "running at 2026-11-24 16:04:00, when this was saved" in html
    assert "<code>jobkit.connect().get(&#x27;8f2c1a9bd0&#x27;)" in html
    assert "30 % · 3 / 10 · fold 3" in html


@pytest.mark.parametrize("state", [str(state) for state in JobState])
def test_nothing_that_a_job_says_becomes_markup(state: str) -> None:
    error = JobError(ErrorKind.EXCEPTION, CANARY, CANARY, f"Traceback:\n{CANARY}\nX: {CANARY}", CANARY)
    spec = JobSpec(id="abc", task=CANARY, title=CANARY, params={CANARY: CANARY}, owner=CANARY, tags=(CANARY,))
    retried = {"error": error.to_wire(), "state": "scheduled"}
    history = tuple(
        JobEvent("abc", n, type, MS, data)
        for n, (type, data) in enumerate(
            [
                (EventType.STARTED, {"attempt": 1, "worker": CANARY}),
                (EventType.RETRIED, retried),
                (EventType.STARTED, {"attempt": 2, "worker": CANARY}),
            ]
        )
    )
    snapshot = job(state, spec=spec, worker=CANARY, message=CANARY, error=error, completed=1, total=2, history=history)
    previews: list[dict[str, Any]] = [
        {"type": CANARY, "text": CANARY, "unavailable": CANARY},
        {"table": {"columns": [CANARY], "rows": [[CANARY]], "shape": [9, 1]}},
        {"png": CANARY},
        {"json": {CANARY: CANARY}},
        {"json": [CANARY]},
        {"html": CANARY, "text": CANARY},
    ]

    for preview in previews:
        elements = Elements(card_html(snapshot, [LogLine(CANARY, MS, n=1)], preview))

        assert {tag for tag, _ in elements.found} <= ALLOWED
        assert not elements.open
        assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
        assert not [a["src"] for tag, a in elements.found if tag == "img" and not a["src"].startswith("data:image/png")]  # type: ignore[union-attr]


def test_a_typical_card_stays_small_and_asks_nothing_of_the_network() -> None:
    table = {"columns": list("abcd"), "rows": [["1.5", "x", "2", "y"]] * 50, "shape": [1000, 4]}
    lines = [LogLine(f"epoch {n}: loss 0.123", MS, n=n) for n in range(1, 400)]

    html = card_html(job(), lines, {"type": "DataFrame", "text": "", "table": table})

    assert len(html.encode()) < 9_000
    assert "10 of 1,000 rows" in html
    assert "last 12 of 399 lines" in html
    assert not re.search(r"https?://|url\(|@import|<link|<script", html)


def test_a_large_figure_is_left_out_with_a_word() -> None:
    assert "too large to keep here" in card_html(job(), (), {"png": "A" * 400_000})
    assert '<img alt="figure" src="data:image/png;base64,iVBORw0=' in card_html(job(), (), {"png": "iVBORw0="})


def test_a_failed_job_shows_error_root_cause_and_folded_traceback() -> None:
    text = (
        "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\nKeyError: 'k'\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        'Traceback (most recent call last):\n  File "b.py", line 2, in h\n    f()\nValueError: no score\n'
    )
    error = JobError(ErrorKind.EXCEPTION, "ValueError", "no score", text, "b.py:2 in h")

    html = card_html(job("failed", error=error, completed=148, total=400))

    assert html.index("ValueError") < html.index("KeyError") < html.index("<summary>Traceback")
    assert "37 % · 148 / 400" in html


def test_the_lines_around_the_failing_one_are_shown_and_it_is_marked_without_style() -> None:
    error = JobError(ErrorKind.EXCEPTION, "E", "m", "", "b.py:10 in h", "9\tif <b>:\n10\t    raise E\n11\t")

    html = card_html(job("failed", error=error))

    assert "   9  if &lt;b&gt;:\n<b>&gt; 10      raise E</b>\n  11  </pre>" in html


def test_what_a_job_saved_is_listed_as_text() -> None:
    saved = [{"name": "<b>curve</b>.png", "size_bytes": 8_100}, {"name": "model.bin", "size_bytes": 250_000}]

    html = card_html(job(), artifacts=saved)

    assert "2 artifacts, 258 kB" in html
    assert "&lt;b&gt;curve&lt;/b&gt;.png" in html


def test_a_bokeh_figure_without_a_picture_says_how_to_see_it() -> None:
    preview = {"type": "figure", "text": 'Bokeh figure "Losses"', "bokeh": {"item": {}}}

    html = card_html(job(), preview=preview)

    assert "Bokeh figure &quot;Losses&quot;" in html
    assert "<code>bokeh.io.show(job.result())</code> draws it" in html
    assert "draws it" not in card_html(job(), preview={**preview, "png": "iVBORw0KGgo="})


def test_a_cancelled_job_names_the_user_and_the_reason() -> None:
    asked = JobEvent("8f2c1a9bd0", 2, EventType.CANCELLED, 0, {"by": "<grace>", "reason": "wrong data"})
    assert "Cancelled by &lt;grace&gt;: wrong data" in card_html(job("cancelled", history=(asked,)))
