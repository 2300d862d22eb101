"""`job.report` and `batch.report`: one HTML file that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobkit
from jobkit.client.kit import Kit
from jobkit.model import InvalidParams

PNG = b"\x89PNG\r\n\x1a\n picture"


def work(n: int, note: str = "") -> dict[str, float]:
    for i in range(30):
        print(f"line {i} <b>")
    jobkit.current().save("plot.png", PNG)
    if n == 3:
        raise ValueError("bad <script>alert(1)</script>")
    return {"loss": n / 2}


@pytest.fixture
def kit() -> Iterator[Kit]:
    with jobkit.connect("sync://") as kit:
        yield kit


def test_a_report_has_arguments_result_whole_log_and_pictures(kit: Kit, tmp_path: Path) -> None:
    job = kit.submit(work, 1, note="<i>" * 100)

    written = job.report(tmp_path / "run.html")

    text = written.read_text()
    assert written == tmp_path / "run.html"
    assert "line 0 &lt;b&gt;" in text
    assert "line 29 &lt;b&gt;" in text
    assert "loss" in text
    assert "&lt;i&gt;" in text
    assert 'src="data:image/png;base64,' in text


def test_a_report_loads_nothing_and_runs_nothing_of_a_job(kit: Kit, tmp_path: Path) -> None:
    text = kit.submit(work, 3).report(str(tmp_path / "run.html")).read_text()

    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"|url\(|@import', text)


def test_the_report_of_a_batch_has_its_card_and_those_of_its_jobs_failed_ones_first(kit: Kit, tmp_path: Path) -> None:
    batch = kit.map(work, [{"n": n} for n in range(5)])

    text = batch.report(tmp_path / "batch.html").read_text()

    assert text.count("<details><summary>Arguments") == 5
    cards = text[text.index("</script>") :]
    assert cards.index(batch[3].id) < cards.index(batch[0].id)


@pytest.mark.parametrize("path", ["", ".", "no/such/folder/run.html"])
def test_a_path_that_cannot_be_written_is_one_sentence(kit: Kit, tmp_path: Path, path: str) -> None:
    job = kit.submit(work, 1)

    with pytest.raises(InvalidParams, match=r"must name a file|cannot be written"):
        job.report(tmp_path / path)
    with pytest.raises(InvalidParams, match="path"):
        job.report(7)  # type: ignore[arg-type]
