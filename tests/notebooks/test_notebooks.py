"""The tutorial notebooks, each run as a user runs it: from top to bottom, with a new embedded server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

from tests.support import ROOT, by_default

from .conftest import KERNELS, cell_with, run, text_of

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = KERNELS

#: Expected text in the output of each cell.
EXPECTED = {
    "02-progress-and-logs": {
        "job.wait()": r"1\.0, 'rows', \['kept 297 of 300 rows'\]",
        "line.level": r"WARNING.*row 96 has no date",
        "seen[-1]": r"'succeeded', True",
        "survey": r"squares\.csv', 'text/csv', 29",
        "artifacts()[0].read()": r"4,16",
        "%%job": r"Succeeded",
        "question.text": r"'Which series is noise\?', \['north', 'south'\]",
        "job.answer": r"'south'",
        "total.result()": r"1\.007, \{'weights': \[0\.2, 0\.3, 0\.5\]\}",
    },
    "03-sweep": {
        "decay.sweep(steps=[4, 8": r"14 / 14 · ✓ 14 succeeded[\s\S]*<svg",
        "json_normalize": r"0\.07284",
        "seed=1": r"1\.923",
        "range(1000), rate": r"1,000,000 points.*pass limit=1000",
        "stop_when": r"True, True",
    },
    "04-dependencies": {
        "average.result()": r"247\.5",
        "text.result()": r"means: north 122\.5, east 98, south-west 245",
        "last.error": r"dependency\njob … \(mean\), whose result it needs, cannot run: job … \(load\).*TypeError",
    },
    "05-your-own-app": {
        "app.submit()\n": r"\[1\.0, 0\.855",
        ".rx()": r"'succeeded, 40', 1\.0",
        "simulate.form()": r"'TaskForm', \['n', 'damping'\]",
    },
    "06-a-team": {
        "def where": r"on a worker of queue gpu",
        "team.workers()": r"\('gpu',\), 2, True",
        "team.jobs": r"'where', True, True",
    },
    "07-from-arq": {
        "enqueue_job": r"30",
        'task="download"': r"part 3 of a\.zip[\s\S]*succeeded",
    },
    "08-checkpoints": {
        "crashes_at=7": r"epoch 7\nresumed at epoch 7 \(written by attempt 1\)\nepoch 7\nepoch 8",
        "job.attempt": r"\(0\.28243, 0\.28243, 2, 'resumed at epoch 7'\)",
        "job.checkpoints()": r"\('epoch 11', 2, 11\), \('epoch 12', 2, 12\)",
        "longer = ": r"0\.205891 0\.205891\nresumed at epoch 12[^\n]*\nepoch 12\nepoch 13\nepoch 14",
        "endless": r"'cancelled'>, True",
    },
    "09-metrics": {
        "sorted(job.metrics)": r"\['acc', 'train/loss', 'val/loss'\], True",
        "batch = kit.map": r"3 / 3 · ✓ 3 succeeded[\s\S]*<path",
        "groupby": r"0\.10 +0\.0",
        "jobkit.show": r"wave[\s\S]*<img",
        "careless": r"metric 'loss' is a number, not str '0\.3'",
    },
    "10-study": {
        "study = kit.study(": r"Study fit a line[\s\S]*40 / 40[\s\S]*best value: \d[\s\S]*best so far",
        "study.result()": r"True, \['lr', 'momentum', 'schedule'\], .*succeeded",
        "study.trials()\n": r"40, True, .*True",
        "again": r"True, .*succeeded.*, True",
        "get_param_importances": r"True",
        "picky": r"failed +(NaN|None) +ValueError: 0\.\d+ is too small",
        'space={"y"': r"space\['y'\] does not fit picky",
        "report": r"'study\.html', True",
    },
    "11-history": {
        "age:<1y": r"lr +loss +result +state[\s\S]*0\.30 +1\.088033e-15",
        "kit.delete": r"\(0, 4\)",
        "archive.reopen": r"Succeeded[\s\S]*w = 3\.000",
        "rerun": r"'w': 3\.0",
        "report": r"'run\.html', True",
    },
    "12-a-second-machine": {
        "line[:16]": r"jobkit join jk1\.",
        "job.result() ==": r"True, on the second machine",
        "nbytes": r"8000000, np\.float64\(999999\.0\)",
        "there.submit": r"True\s+\['lambda', 'table', 'where'\]",
        "--revoke": r"worker default True\s+True\s+.*refuses this machine, which was revoked",
        "--stop": r"True jobkit: stopped",
    },
}


@pytest.mark.parametrize("name", by_default(EXPECTED))
def test_a_notebook_runs_with_the_expected_outputs(home: Path, name: str) -> None:
    ran = run(nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4))

    for source, pattern in EXPECTED[name].items():
        text = text_of(cell_with(ran, source))
        assert re.search(pattern, text), f"under {source!r} there is {text[:600]!r}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_is_small_and_readable_without_a_kernel(path: Path) -> None:
    text = path.read_text("utf-8")
    notebook = nbformat.reads(text, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]

    assert path.stem in {*EXPECTED, "01-first-job"}
    assert outputs, "its outputs are not stored"
    assert len(text) < 60_000
    assert "widget-view" not in json.dumps(outputs)
    assert not [output for output in outputs if output.output_type == "error"]
    assert not re.search(r"/(tmp|home|work|root|Users)/", json.dumps(outputs))
    assert len(notebook.cells) <= 24
